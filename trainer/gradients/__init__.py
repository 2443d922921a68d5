"""Types and arithmetic of lists of per-loss gradients."""
