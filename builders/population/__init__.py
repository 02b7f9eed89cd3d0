"""Many models of one architecture as one program: their layers and activations."""
