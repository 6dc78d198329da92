"""Services outside: each mirrors what a run has written, and none is needed to train."""
