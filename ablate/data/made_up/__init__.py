"""Objectives whose sequences are made up, not cut from text: what a mixing layer can do, without a data set."""
