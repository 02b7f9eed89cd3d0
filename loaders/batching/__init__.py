"""Order of batches, and loaders that place batches on a device."""
