"""Benchmark of merging: families of networks, every merge method, mixtures and controls."""
