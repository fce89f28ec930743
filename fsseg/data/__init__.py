"""Dataset specs, structures, assembly, splits, volumes in memory, crops and phantoms."""
