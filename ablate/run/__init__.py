"""A run on disk: its folder, its lock, its record, its status, and whether it is the run that a config describes."""
