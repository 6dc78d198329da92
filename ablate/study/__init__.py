"""A study: what a sweep file asks, and the runs that answer it."""
