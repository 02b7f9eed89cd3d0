"""Checkpoint folders of safetensors: checked headers, tensors read in place, and a writer."""
