"""What every package may use: errors, checks of plain values, import paths, durations, files. Standard library only."""
