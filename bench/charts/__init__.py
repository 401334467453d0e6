"""The charts of a stored run: from its table to figures, and the one writer of their files."""
