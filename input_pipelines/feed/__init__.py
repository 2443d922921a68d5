"""From prepared splits to batches: in memory or streaming, shuffled, mixed, augmented."""
