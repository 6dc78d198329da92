"""Statistics on plain arrays: moderated tests, rank correlations, the agreement that noise leaves possible."""
