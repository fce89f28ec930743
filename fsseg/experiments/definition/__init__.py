"""What a table is: its file, the cells that come of it, and its columns."""
