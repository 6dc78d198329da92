"""Statistics on plain arrays: simultaneous tests of a table, rank correlations, the agreement that noise leaves possible."""
