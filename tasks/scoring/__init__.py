"""Scores of predictions, their ceilings and intervals."""
