"""What one does with a zoo: joins loaders and encoders."""
