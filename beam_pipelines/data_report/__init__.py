"""What the data are, for people."""
