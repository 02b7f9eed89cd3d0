"""Storage of rows in zoo files: shards, mapped weights, and scalar columns in memory."""
