"""Tables, curves, overlays and the self-contained HTML report."""
