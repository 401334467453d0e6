"""What is kept: files that are there whole or not at all, tables a row at a time, the stored run."""
