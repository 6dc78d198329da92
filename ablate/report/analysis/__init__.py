"""Numbers of a report: the gathered records, verdicts, and agreement with a published table."""
