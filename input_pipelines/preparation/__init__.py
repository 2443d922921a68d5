"""From a source's features to inputs and targets."""
