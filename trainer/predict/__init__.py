"""Predictions of a trained run for data of any size, as a table or as arrays."""
