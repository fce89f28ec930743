"""Configuration, errors, run folders and manifests. Imports nothing else of fsseg, and no torch."""
