"""Text tasks: their examples, formats, splits and metrics; no model."""
