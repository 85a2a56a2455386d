"""`python -m export.local_server`."""

from export.local_server.server import main

if __name__ == "__main__":
    main()
