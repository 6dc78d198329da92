"""Ablation benchmarks for Transformer language models: which change is worth having, and how sure are we?"""

__version__ = "0.1.0"
