"""Ranking pre-trained models for a target task before any of them is fine-tuned.

A ranker reads arrays alone: features, logits, labels and domains of each model on the task's
images (`features`), and the accuracies that other fine-tunings reached (`matrix`). Extraction is
a separate step, and so is the judgement of a ranking (`ranks`, `referee`).
"""
