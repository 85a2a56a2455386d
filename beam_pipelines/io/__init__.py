"""How the pipelines start, write and report."""
