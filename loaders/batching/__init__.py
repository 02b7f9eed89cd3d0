"""Batches: their order, and loaders that place them on a device."""
