"""What every part uses and has no meaning of its own. Imports no TensorFlow and nothing of the other folders."""
