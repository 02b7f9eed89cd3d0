"""Merge methods: one tensor of every member in, one tensor out."""
