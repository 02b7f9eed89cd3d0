"""Zoos that descend from zoos: fine-tuned, pruned and sparsified models."""
