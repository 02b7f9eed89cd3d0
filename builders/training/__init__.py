"""Training of one cohort: objectives, optimizers, schedules, initial weights."""
