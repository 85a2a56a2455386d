"""Runs `twin-tf` commands, each in a fork of this process, and says when each begins and ends; the test kills them.

python forked_commands.py

Each line of standard input is a JSON list, the arguments of a command. It runs in a process group of its own, whose id
is printed at once, and `<id> ended <status>` when it is gone; what it says goes to the file `said` in the directory
that this process was started in. Forking saves each the start of Python and the imports, which write nothing.
"""

import json
import os
import sys

import beam_pipelines.build_examples
import beam_pipelines.cluster_histories
import beam_pipelines.import_dataset
import beam_pipelines.simulate_logs  # noqa: F401
import export.publishing.refresh
import export.saved_model.exporter  # noqa: F401
import twin_tf.runs.item_embeddings
import twin_tf.training.run_page
import twin_tf.training.train  # noqa: F401
from twin_tf.cli.main import main


def run(arguments):
    """A child's whole life."""
    os.setpgid(0, 0)
    said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    try:
        main(arguments)
    except SystemExit as error:
        sys.stdout.flush()
        os._exit(error.code or 0)
    except BaseException:  # noqa: BLE001  a fork may not come back
        sys.excepthook(*sys.exc_info())
        os._exit(70)
    os._exit(0)


for line in sys.stdin:
    child = os.fork()
    if not child:
        run(json.loads(line))
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(child, "ended", os.waitstatus_to_exitcode(status), flush=True)
