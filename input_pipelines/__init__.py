"""Sources and datasets of multi-target batches: one file per kind of source or dataset."""
