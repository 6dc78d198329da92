"""Weights of other libraries, in and out: classes of `transformers`, and the files of llama2.c."""
