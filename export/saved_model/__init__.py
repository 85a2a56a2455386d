"""A run becomes a SavedModel: the only room of export with TensorFlow's Python."""
