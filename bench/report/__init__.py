"""What stored runs say side by side: the differences of two, and the history of more."""
