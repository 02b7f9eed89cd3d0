"""Autoencoders of weights: training, saved form, canonical weights, behaviour."""
