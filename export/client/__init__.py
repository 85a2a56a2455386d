"""Clients of a served model; no TensorFlow."""
