"""From prepared splits to batches: in memory, streaming or in a dataset's own order, shuffled, mixed, augmented."""
