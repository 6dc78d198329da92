"""Metrics of texts that a model wrote, as the tasks' own scorers have them. Scores are in per cent."""
