"""What a table costs: hours and disk, measured on a few steps of each kind of runs."""
