"""The texts that language models are trained on."""
