"""Every example runs as it is shown, from any directory, and ends with what it promises."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


def run(name, tmp_path):
    """What an example prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(ROOT / "examples" / name)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_twin_attention_learns(tmp_path):
    assert len((ROOT / "examples/twin_attention.py").read_text().splitlines()) <= 30
    found = ast.literal_eval(re.findall(r"{.*}", run("twin_attention.py", tmp_path))[-1])
    assert found["auc"] > 0.75
