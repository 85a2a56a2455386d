"""The wire contract is plain TensorFlow Serving: strangers to this project run the commands of docs/client.md."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export.local_server.server import start_local_server
from tests.other_programs import program
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.integration

PAGE = (Path(__file__).parents[3] / "docs" / "client.md").read_text()


def block(mark):
    """The content of the page's code block with this mark."""
    (found,) = re.findall(rf"```{mark}\n(.*?)```", PAGE, flags=re.DOTALL)
    return found


@pytest.fixture(scope="module")
def server(toys, place, tmp_path_factory):
    base = tmp_path_factory.mktemp("base")
    place(toys / "good", base, 12)
    with start_local_server(base) as running:
        yield running


def run(command, directory):
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(
    shutil.which("curl") is None, reason="curl is not installed: the REST commands of docs/client.md not run"
)
def test_the_pages_curl_commands_are_answered(server, tmp_path):
    lines = block("sh curl").replace("127.0.0.1:8501", server.rest_address).splitlines()
    status, metadata, columns, rows = (json.loads(run(["sh", "-c", line], tmp_path)) for line in lines)
    assert status["model_version_status"][0]["state"] == "AVAILABLE"
    assert metadata["model_spec"]["version"] == "12"
    assert columns["outputs"]["found"] == [[True, False]]
    assert [row["found"] for row in rows["predictions"]] == [[True], [False]]


@pytest.fixture(scope="module")
def protoset(tmp_path_factory):
    """A directory with the page's `serving.protoset`."""
    directory = tmp_path_factory.mktemp("protoset")
    run([sys.executable, "-c", block("python protoset")], directory)
    return directory


def shown(tool, server, directory):
    """What a command of the page prints, against this server."""
    command = block(f"sh {tool}").replace("127.0.0.1:8500", server.address)
    return json.loads(run(["sh", "-c", f'PATH="{program(tool).parent}:$PATH"; {command}'], directory))


@pytest.mark.parts
def test_the_pages_grpcurl_command_is_answered(server, protoset):
    answer = shown("grpcurl", server, protoset)
    assert answer["outputs"]["found"]["bool_val"] == [True, False]
    assert answer["model_spec"]["version"] == "12"


@pytest.mark.parts
def test_all_calls_of_the_pages_ghz_command_are_answered(server, protoset):
    report = shown("ghz", server, protoset)
    assert report["count"] == 200
    assert report["statusCodeDistribution"] == {"OK": 200}, report["errorDistribution"]
