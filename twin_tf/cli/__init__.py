"""The command line `twin-tf`."""
