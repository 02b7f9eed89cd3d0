"""Access to the Hugging Face Hub that loaders and builders share."""
