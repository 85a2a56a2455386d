"""How long a test waits for another process or a server: for ever but for a hang, since machines are busy."""

PATIENCE_S = 900

PAUSE_S = 0.02
"""Between two calls of a test that keeps a server under load: without it a busy machine never gets to the rest."""
