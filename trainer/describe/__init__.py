"""Describes an experiment before it is trained: data, model, losses, method, optimizers, cost of a step."""
