"""`ZooDataset`: rows of a zoo, their formats, conditions and trajectories."""
