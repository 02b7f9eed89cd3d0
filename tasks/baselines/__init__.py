"""Baselines that need no neural encoder: regressors and probes on weight statistics."""
