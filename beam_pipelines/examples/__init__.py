"""Raw logs become records."""
