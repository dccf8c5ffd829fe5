"""Training-time mapping search: train a network while choosing which unit makes which channels."""
