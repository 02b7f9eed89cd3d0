"""Dataset cards: what a zoo is, its licence, its metadata for the Hub and its text."""
