"""Imports: what is found, how it is grouped, named, split, written and reported."""
