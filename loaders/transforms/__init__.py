"""Transforms of weights: permutation, alignment, augmentation and standardisation."""
