"""How long a test waits for another process or a server: for ever but for a hang, since machines are busy."""

PATIENCE_S = 900
