"""Import of public checkpoints: safe loading, families, transfer onto the networks here."""
