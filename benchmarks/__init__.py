"""Benchmarks: what predictors and generators reach, beside baselines and ceilings."""
