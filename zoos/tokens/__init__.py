"""Tokenizers, which cut flat weights into sets of tokens, windows of tokens, and their memory."""
