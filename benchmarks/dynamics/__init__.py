"""The benchmark `dynamics`: what the first checkpoints of a run tell."""
