"""Reads zoos: rows, state dicts, modules, layer sets."""
