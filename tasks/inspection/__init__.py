"""What a zoo holds: summary, verification, plots."""
