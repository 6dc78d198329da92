"""A report in words, tables and plots."""
