"""What lies on disk, and how it becomes a batch."""
