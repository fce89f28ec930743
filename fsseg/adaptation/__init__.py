"""From settings to a fitted network: support cases, training, estimate, and what a run folder keeps."""
