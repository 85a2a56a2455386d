"""Publishes a model over and over, one forked process a time, and says when each begins; the test kills them.

python killed_publisher.py MODEL BASE

For every line on standard input a child publishes MODEL into BASE, in a process group of its own; its id is printed at
once, and `<id> ended <status>` when it is gone. Forking spares each the start of Python, which is no part of
publishing.
"""

import os
import sys

from export.publishing.publisher import publish


def main(model: str, base: str) -> None:
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            os.setpgid(0, 0)
            publish(model, base)
            os._exit(0)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(child, "ended", status, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
