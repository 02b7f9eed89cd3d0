"""The image sets and signals that networks are trained on."""
