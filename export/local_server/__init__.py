"""A stand-in for TensorFlow Serving, for development."""
