"""Trains Keras models with several heads and losses: reduce every loss's gradients, then combine, then apply."""
