"""Tokenizers, which cut flat weights into sets of tokens, and windows of tokens."""
