"""Networks from plans, segmentation heads, and base checkpoints."""
