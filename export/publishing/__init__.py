"""The one door to a base path."""
