"""One small Python file per experiment."""
