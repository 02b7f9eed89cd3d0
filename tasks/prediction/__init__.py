"""Property prediction: encoders compared with baselines on one zoo, and the report."""
