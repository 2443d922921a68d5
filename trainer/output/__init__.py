"""Output of a run: workdir, checkpoints, reports, plots, terminal."""
