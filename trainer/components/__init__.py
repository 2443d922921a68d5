"""Keras objects by name: losses, metrics, optimizers, schedules."""
