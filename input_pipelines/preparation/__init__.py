"""From what a source holds to inputs and targets."""
