"""Finished datasets, chosen by name."""
