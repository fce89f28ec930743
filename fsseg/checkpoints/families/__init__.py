"""One module per family of checkpoints, each with a FAMILY; fsseg/checkpoints/registry.py lists them."""
