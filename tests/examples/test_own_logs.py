"""The README's commands, run as they stand on the tiny log of examples/own_logs; examples that need a trained run."""

import json
import re
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from export.local_server.server import start_local_server
from tests.docs.pages import README, ROOT, blocks, section, text_of, twin_tf_calls
from twin_tf.cli.main import main
from twin_tf.evaluation.item_names import shown_ids
from twin_tf.features.encoders import encode_ids

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
        (command,) = blocks(text_of(ROOT / "docs/other_languages.md"), "sh curl")
        command = command.replace("127.0.0.1:8501", server.rest_address)
        by_rest = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    (clicks,) = json.loads(by_rest)["predictions"]
    assert clicks["unknown_items"] == clicks["adjusted"] == 0 and len(clicks["probability"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["candidates"]) == 4
    assert all(0 < candidate["probability"] < 1 for candidate in answer["candidates"])
    assert answer["unknown_items"] == 0


def test_python_without_a_server_runs_as_shown(shop, monkeypatch):
    monkeypatch.chdir(shop)
    shown, names = blocks(text_of(ROOT / "docs/python.md"), "python"), {}
    assert len(shown) == 4
    for code in shown:
        exec(compile(code, "docs/python.md", "exec"), names)
    rows = pq.read_table("test_scores.parquet").to_pylist()
    targets = json.loads((shop / "prepared/manifest.json").read_text())["counts"]["targets"]["test"]
    assert len(rows) == targets
    assert all(encode_ids(names["sku"], [row["item"]])[0] == row["item_hash"] for row in rows)
    scored = {row["item"]: row["probability"] for row in pq.read_table("scores.parquet").to_pylist()}
    expected = dict(zip(["mugs-2", "books-1"], names["probability"][0], strict=True))
    assert {item: scored[item] for item in expected} == pytest.approx(expected, abs=1e-6)
    assert not list(shop.glob(".*.tmp"))


def test_a_bad_line_leaves_the_earlier_file(shop, monkeypatch, tmp_path):
    monkeypatch.chdir(shop)
    (tmp_path / "scores.parquet").write_text("earlier")
    request = json.dumps(json.loads((shop / "request.json").read_text()))
    (tmp_path / "lines.jsonl").write_text(f"{request}\n{{\n")
    arguments = ["score", "--run", "run", "--requests", tmp_path / "lines.jsonl", "--output"]
    result = CliRunner().invoke(main, [*map(str, arguments), str(tmp_path / "scores.parquet")])
    assert result.exit_code == 2 and "lines.jsonl, line 2: the request is not valid JSON" in result.stderr
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["lines.jsonl", "scores.parquet"]
    assert (tmp_path / "scores.parquet").read_text() == "earlier"
    result = CliRunner().invoke(main, [*map(str, arguments), str(tmp_path / "scores.csv")])
    assert result.exit_code == 2 and "must be called *.parquet" in result.stderr


def test_text_ids_of_items_are_shown_as_text(shop):
    shown = [target["item"] for user in json.loads((shop / "run/evaluation-test.json").read_text())["retrieved"]
             for target in user["targets"]]  # fmt: skip
    assert len(shown) > 2
    assert all(re.fullmatch("[a-z]+-[0-9]+", item) for item in [*shown, *shown_ids(shop / "run", np.arange(2, 62))])


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
