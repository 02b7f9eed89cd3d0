"""Zoo folders that are still being written."""
