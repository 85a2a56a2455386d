"""Reading raw logs: every format by the same rules, every malformed row kept aside with its reason."""
