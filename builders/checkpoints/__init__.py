"""Foreign checkpoint files: archives, pickles and torch files, read without running code."""
