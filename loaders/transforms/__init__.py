"""Transforms of weights: permutations, alignment, augmentations, standardisation."""
