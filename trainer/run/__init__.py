"""One training run by configuration."""
