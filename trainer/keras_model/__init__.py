"""Keras' `compile` and `fit` on the trainer's step."""
