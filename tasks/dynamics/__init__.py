"""Measures of a population's paths, geometry, curvature and spectra; `analyse_zoo` runs them."""
