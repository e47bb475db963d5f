"""A camera that knows the truth, and somebody who gives commands and checks the answers."""

DEFAULT_SEED = 18  # of the scene: one that the shipped weights answer well
