"""New networks drawn from an autoencoder or from weights, and what they are worth."""
