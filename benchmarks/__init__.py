"""Benchmarks of predictors and generators, with baselines and ceilings beside them."""
