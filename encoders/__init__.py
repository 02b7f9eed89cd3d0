"""Reference encoders of weights; they know tensors and a layer table, never a file."""
