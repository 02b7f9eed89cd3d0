"""Readers of published zoos, one file per format."""
