"""The README's commands, run as they stand on the tiny log of examples/own_logs."""

import json
import shutil

import pytest

from export.local_server.server import start_local_server
from tests.docs.pages import README, ROOT, section, text_of, twin_tf_calls
from twin_tf.cli.main import main


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A copy of the example in which the README's five commands were run."""
    folder = tmp_path_factory.mktemp("own") / "shop"
    shutil.copytree(ROOT / "examples/own_logs", folder)
    calls = twin_tf_calls(section(text_of(README), "Your own logs"))
    assert len(calls) == 5
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for call in calls:
            main.main(call, standalone_mode=False)
    return folder


def test_own_logs_become_a_published_version(shop):
    report = json.loads((shop / "prepared/report.json").read_text())
    assert report
    assert [path.name.isdigit() for path in (shop / "serving/twin").iterdir() if path.name[0] != "."] == [True]


def test_own_logs_request_is_answered(shop, capsys, monkeypatch):
    monkeypatch.chdir(shop)
    with start_local_server(shop / "serving/twin") as server:
        arguments = ["predict", "--model", "model", "--request", "request.json", "--server", server.address, "--json"]
        main.main([*arguments, "--timeout", "60"], standalone_mode=False)
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["candidates"]) == 4
    assert all(0 < candidate["probability"] < 1 for candidate in answer["candidates"])
    assert answer["unknown_items"] == 0
