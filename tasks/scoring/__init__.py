"""Scores of predictions, with their ceilings and confidence intervals."""
