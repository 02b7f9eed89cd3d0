"""weightzoo: populations of trained networks as datasets."""
