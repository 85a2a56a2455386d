"""The README's commands, run as they stand on the tiny log of examples/own_logs; examples that need a trained run."""

import json
import runpy
import shutil
import sys

import pytest

from export.local_server.server import start_local_server
from tests.docs.pages import README, ROOT, section, text_of, twin_tf_calls
from twin_tf.cli.main import main

pytestmark = pytest.mark.integration


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


@pytest.fixture
def example(shop, monkeypatch, capsys):
    """Runs an example in the shop, gives what it prints."""

    def run(name, *arguments):
        monkeypatch.chdir(shop)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_load_a_run_scores_what_evaluate_scores(example, capsys):
    said = example("load_a_run.py", "run", "prepared")
    main.main(["evaluate", "--run", "run", "--prepared", "prepared", "--json"], standalone_mode=False)
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert said == f"{metrics['targets']} targets, AUC {metrics['auc']:.4f}, GAUC {metrics['gauc']:.4f}\n"


def test_retrieved_behaviours_draws_what_the_gsu_found(shop, example):
    said = example("retrieved_behaviours.py", "model", "prepared")
    assert (shop / "retrieved_behaviours.png").read_bytes().startswith(b"\x89PNG")
    assert said.startswith("retrieved_behaviours.png: ")
