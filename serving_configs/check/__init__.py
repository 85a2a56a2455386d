"""What the files of a server must be and say alike; `python -m serving_configs.check` runs it."""
