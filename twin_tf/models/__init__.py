"""Layers, a search and features make a network."""
