"""What a training leaves behind."""
