"""Tokenizers: flat weights as sets of tokens, and windows of them."""
