"""Models: trunks, heads, and how they share."""
