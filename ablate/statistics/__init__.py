"""Statistics on plain arrays: tests of a whole table, rank correlations, the agreement that noise leaves possible."""
