"""Evaluations that train: the finished model, or its architecture anew, on text tasks."""
