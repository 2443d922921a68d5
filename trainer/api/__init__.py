"""The public functions for runs from Python: train, load a run, describe an experiment."""
