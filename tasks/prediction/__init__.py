"""Property prediction: encoders beside baselines on one zoo, and its report."""
