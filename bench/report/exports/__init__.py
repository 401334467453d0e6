"""A stored run in the files of other tools: one module for each, and the command."""
