"""What a column of the logs means."""
