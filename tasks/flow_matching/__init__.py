"""Flow matching on aligned weights: a generator of networks without a decoder."""
