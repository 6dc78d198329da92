"""Weights of other libraries, in and out: Llama's and T5's form in `transformers`, and the files of llama2.c."""
