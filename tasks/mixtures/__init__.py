"""Mixtures of checkpoints: their layers or feed-forward blocks as experts, and the gates."""
