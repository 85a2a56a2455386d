"""A version, loaded as the server loads it."""
