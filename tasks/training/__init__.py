"""Training of encoders that predict a column from weights, and their saved form."""
