"""The checks of an installation: `python -m trainer.selfcheck`."""
