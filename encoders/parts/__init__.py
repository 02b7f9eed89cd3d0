"""Modules that several encoders share."""
