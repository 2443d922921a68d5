"""What `python -m trainer.selfcheck` looks at, one module for each kind of check."""
