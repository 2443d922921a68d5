"""Scripts that start runs: on this machine, and what they share."""
