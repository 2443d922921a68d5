"""Kinds of sources: each opens what the configuration names and gives its splits' features."""
