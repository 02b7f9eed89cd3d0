"""Zoos on the Hugging Face Hub: fetch, stream and publish."""
