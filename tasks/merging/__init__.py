"""Merging and mixing of models: families, methods, recipes, search, mixtures."""
