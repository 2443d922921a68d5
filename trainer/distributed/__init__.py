"""Replicas and workers: strategies, collectives, how workers meet, signals."""
