"""Masked losses, the optimisation step, stop rules and the adaptation loop."""
