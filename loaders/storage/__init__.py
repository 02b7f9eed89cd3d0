"""Rows of zoo files: shards, mapped weights, scalar columns in memory."""
