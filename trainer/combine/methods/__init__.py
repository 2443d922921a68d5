"""The combination methods, a file per method or family: functions and, below them, entries with options and cards."""
