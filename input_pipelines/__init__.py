"""Where multi-target batches come from: one file per kind of source or dataset."""
