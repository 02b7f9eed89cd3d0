"""Transferability scores: what features, logits and labels tell of a pre-trained model."""
