"""Baselines without a neural encoder: regressors and probes on weight statistics."""
