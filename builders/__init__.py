"""Builds zoos: trains populations and writes them to HDF5."""
