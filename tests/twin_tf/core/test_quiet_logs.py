"""No line of TensorFlow or absl on a terminal, unless `TF_CPP_MIN_LOG_LEVEL` asks for it."""

import os
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT

pytestmark = pytest.mark.integration

SESSION = """
from twin_tf.core.quiet_logs import quiet_processes
{quiet}
from twin_tf.core.keras_api import tf
v1 = tf.compat.v1
with v1.Graph().as_default(), v1.Session() as session:  # the server's way to run a graph: C++ code that logs by absl
    print(session.run(v1.constant(3) + 4))
v1.logging.warning("a warning of Python's logger")
"""


@pytest.mark.parametrize("quiet", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_tensorflow_is_silent_unless_asked(quiet):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    code = SESSION.format(quiet="quiet_processes()" if quiet else "")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "7\n"
    if quiet:
        assert done.stderr == ""
    else:
        assert "mlir_graph_optimization_pass" in done.stderr and "a warning of Python's logger" in done.stderr
