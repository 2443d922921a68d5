"""What a run writes and shows: workdir, checkpoints, reports, plots, terminal."""
