"""Text -> tokens -> batches: sources, tokenizers, token shards, objectives, and the order in which windows are read."""
