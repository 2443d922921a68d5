"""Export of a trained run: a file or folder that other programs load and run, without this project."""
