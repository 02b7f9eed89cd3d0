"""Benchmarks of rankers: fine-tuning matrices, the referee, unseen domains."""
