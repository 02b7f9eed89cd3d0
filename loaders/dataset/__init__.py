"""`ZooDataset`: rows of a zoo, with formats, conditions and trajectories."""
