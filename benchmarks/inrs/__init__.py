"""Benchmarks on implicit neural representations (INRs): frequency, class of an image, editing."""
