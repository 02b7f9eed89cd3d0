"""Editing of networks: weights in, changed weights out, judged by what the networks compute."""
