"""Published protocols: which rows of a published zoo are compared, and in which split each is."""
