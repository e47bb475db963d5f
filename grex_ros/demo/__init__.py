"""A camera that knows the truth, and somebody who gives commands and checks the answers."""
