"""Modules for every package: errors, checks of plain values, import paths, durations, files. Standard library only."""
