"""The command line: one file per command. Each parses, calls its stage and prints."""
