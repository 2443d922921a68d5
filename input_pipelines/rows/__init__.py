"""Examples in their own order, each once, as a trained model takes them."""
