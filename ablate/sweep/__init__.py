"""Sweeps: a file of rows becomes runs, and the runs become records."""
