"""How a batch becomes an update."""
