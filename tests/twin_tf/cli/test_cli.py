"""Every command explains itself, and every mistake of a user is one sentence and an exit code."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from export.local_server.server import start_local_server
from export.session.child_process import child_environment
from tests.patience import PATIENCE_S
from tests.twin_tf import small_run
from tests.twin_tf.built_once import shared_root
from twin_tf import __version__
from twin_tf.cli.main import main

pytestmark = pytest.mark.integration

COMMANDS = (
    "simulate", "import", "preprocess", "cluster", "item-embeddings", "train", "evaluate", "inspect", "score",
    "compare", "export", "validate", "publish", "refresh",
    "rollback", "serve", "predict",
)  # fmt: skip

READING = (
    "preprocess", "cluster", "item-embeddings", "train", "evaluate", "score", "compare", "export", "inspect", "refresh",
)  # fmt: skip
"""Commands that read prepared data or a run."""

PROBE = """
import sys
from twin_tf.cli.main import main
sys.argv[0] = "twin-tf"
try:
    main()
finally:
    found = sorted({name.split(".")[0] for name in sys.modules} & {"tensorflow", "tf_keras", "keras", "apache_beam"})
    print("IMPORTED", found, file=sys.stderr)
"""


def call(*arguments):
    """Runs a command in this process: (exit code, stdout, stderr)."""
    result = CliRunner().invoke(main, [str(one) for one in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def command(*arguments, cwd=None, code=None):
    """Runs a command in a process of its own."""
    start = ["-c", code] if code else ["-m", "twin_tf.cli"]
    return subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        capture_output=True, text=True, env=child_environment(), cwd=cwd, timeout=PATIENCE_S, check=False,
    )  # fmt: skip


def sentence(stderr):
    """The last line of stderr, which must be the only error there."""
    assert "Traceback" not in stderr
    lines = [line for line in stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    return stderr[stderr.index("Error: ") + 7 :].strip()


@pytest.fixture(scope="module")
def model():
    return small_run.small_model(shared_root())


@pytest.fixture(scope="module")
def served(model, tmp_path_factory):
    base = tmp_path_factory.mktemp("serving")
    shutil.copytree(model, base / "1700000000")
    with start_local_server(base) as server:
        yield server.address


def test_the_commands_are_the_documented_ones():
    assert set(main.commands) == set(COMMANDS)
    code, output, _ = call("--version")
    assert (code, output.strip()) == (0, f"twin-tf, version {__version__}")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_s_help_shows_an_example_and_explains_every_option(name):
    code, output, _ = call(name, "--help")
    assert code == 0
    assert f"\n  twin-tf {name} " in output
    assert "\\b" not in output
    assert not [one.name for one in main.commands[name].params if isinstance(one, click.Option) and not one.help]


@pytest.mark.parametrize(
    "name",
    READING,
)
def test_whatever_reads_prepared_data_can_be_told_not_to_verify(name):
    (option,) = (option for option in main.commands[name].params if option.name == "verify")
    assert option.opts == ["--no-verify"]
    assert option.get_default(click.Context(main.commands[name])) is True


def test_the_overview_names_every_command():
    code, output, _ = call("--help")
    assert code == 0
    assert all(f"\n  {name} " in output for name in COMMANDS)


CONFIGURED = ("train", "--prepared", "{prepared}", "--run", "{new}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--config", "no_such.yaml"), "cannot read no_such.yaml: No such file or directory"),
        (("--set", "training.epoch=2"), "training has an unknown key 'epoch'; did you mean 'epochs'?"),
        (("--set", "trainig.epochs=2"), "unknown section 'trainig'; did you mean 'training'?"),
        (("--set", "training.epochs"), "must read section.key=value, for example training.epochs=2"),
        (("--set", "training.epochs=two"), "training.epochs must be int, not 'two'"),
        (("--set", "training.epochs=0"), "epochs 0 and batch_records 8 must be at least 1"),
        (("--set", "training.epochs=["), "the value is not valid YAML"),
        (("--set", "model.search=twim"), "model: search 'twim' is not known; did you mean 'twin'?"),
        (("--config", "complete_journey"), "was prepared with another schema than the configuration holds"),
    ],
)
def test_bad_settings_are_one_sentence(arguments, words, prepared, tmp_path):
    given = [part.format(prepared=prepared, new=tmp_path / "run") for part in CONFIGURED]
    code, output, error = call(*given, *arguments)
    assert (code, output) == (2, "")
    assert words in sentence(error)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("train", "--prepared", "{tmp}/none", "--run", "{tmp}/run"), 2, "is not a directory; run `twin-tf"),
        (("train", "--prepared", "{prepared}", "--run", "{run}"), 2, "exists; name a new one, or remove it first"),
        (("train", "--prepared", "{prepared}", "--run", "{tmp}/new", "--init-from", "{tmp}"), 2, "is not a run"),
        (("evaluate", "--run", "{tmp}", "--prepared", "{prepared}"), 2, "is not a run: it has no run.json"),
        (("evaluate", "--run", "{run}", "--prepared", "{tmp}"), 2, "is not prepared data: it has no manifest.json"),
        (("evaluate", "--run", "{run}", "--prepared", "x", "--split", "tset"), 2, "'tset' is not one of"),
        (("evaluate", "--run", "{run}", "--prepared", "x", "--cut-history", "10,-1"), 2, "whole numbers from 1 on"),
        (("evaluate", "--run", "{run}", "--prepared", "{prepared}", "--slice", "devise"), 2, "did you mean 'device'"),
        (("export", "--run", "{tmp}", "--output", "{tmp}/model"), 2, "is not a run: it has no run.json"),
        (("export", "--run", "{run}", "--output", "{model}"), 2, "exists and is not empty; name a new directory or"),
        (("publish", "{tmp}", "--base-path", "{tmp}/serving"), 1, "is no model directory: it holds no"),
        (("publish", "{model}", "--base-path", "{tmp}/serving", "--keep", "1"), 1, "keep must be at least 2, not 1"),
        (("rollback", "--base-path", "{tmp}/nowhere"), 1, "is no base path: there is no such directory"),
        (("refresh", "--base-path", "{tmp}/nowhere", "--run", "{tmp}"), 1, "holds no version to refresh; export one"),
        (("predict", "--model", "{tmp}", "--request", "{request}"), 2, "is no exported model"),
        (("predict", "--model", "{model}", "--request", "{tmp}/none.json"), 2, "cannot read the request"),
        (("predict", "--model", "{model}"), 2, "give either --request FILE or"),
        (("predict", "--model", "{model}", "--replay", "--request", "x"), 2, "give either --request FILE or"),
        (("predict", "--model", "{tmp}", "--replay"), 2, "has no probes"),
        (("predict", "--model", "{model}", "--request", "{request}", "--timeout", "0"), 1, "timeout_s must be"),
        (("simulate", "--output", "{run}"), 2, "exists and is not empty"),
        (("simulate", "--output", "{tmp}/logs", "--set", "user=3"), 2, "unknown key 'user'; did you mean 'users'?"),
        (("simulate", "--output", "{tmp}/logs", "--set", "users"), 2, "must read name=number"),
        (("simulate", "--output", "{tmp}/logs", "--users", "0"), 2, "users must be at least 1, not 0"),
        (("import", "complet-journey", "--output", "{tmp}/raw"), 2, "did you mean 'complete-journey'?"),
        (("preprocess", "--events", "{tmp}/*.csv", "--output", "{tmp}/new"), 2, "--config must name a file with"),
        (("preprocess", "--config", "simulated", "--events", "{tmp}/e*.csv", "--items", "x", "--users", "x",
          "--output", "{tmp}/new"), 2, "no file of the events log matches"),
        (("preprocess", "--config", "simulated", "--events", "{request}", "--output", "{tmp}/new"), 2,
         "needs the items log: name its files with --items"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_and_an_exit_code(arguments, code, words, prepared, run, model, tmp_path):
    request = tmp_path / "request.json"
    request.write_text('{"request_time": 1, "candidates": [1]}')
    places = {"prepared": prepared, "run": run, "model": model, "tmp": tmp_path, "request": request}
    found, output, error = call(*(part.format(**places) for part in arguments))
    assert words in sentence(error)
    assert (found, output) == (code, "")
    assert [path.name for path in tmp_path.iterdir()] in (["request.json"], ["request.json", "serving"])


def test_an_unreachable_server_is_one_sentence_soon(model, tmp_path):
    request = tmp_path / "request.json"
    request.write_text('{"request_time": 1, "candidates": [1]}')
    for way in (("--request", request), ("--replay",)):
        done = command("predict", "--server", "127.0.0.1:9", "--timeout", "2", "--model", model, *way)
        assert (done.returncode, done.stdout) == (1, "")
        assert "127.0.0.1:9" in sentence(done.stderr)


def test_a_wrong_base_path_is_one_sentence(tmp_path):
    done = command("serve", "--base-path", tmp_path / "none", "--port", "0")
    assert done.returncode == 1
    assert str(tmp_path / "none") in sentence(done.stderr)


def test_a_training_that_fails_exits_with_one(prepared, tmp_path):
    settings = small_run.small_config("training.embedding_learning_rate=1e30")
    settings.save(tmp_path / "config.yaml")
    done = command(
        "train", "--config", tmp_path / "config.yaml", "--prepared", prepared, "--run", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 1
    assert "is no longer finite; lower training.dense_learning_rate" in sentence(done.stderr)


def test_validate_needs_no_tensorflow(model, tmp_path):
    done = command("validate", model, "--json", code=PROBE)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"]
    assert "IMPORTED []" in done.stderr
    done = command("validate", tmp_path)
    assert done.returncode == 1
    assert "is not fit to be published: directory:" in sentence(done.stderr)
    assert "holds no saved_model.pb" in done.stderr


def test_predict_needs_no_tensorflow_and_takes_a_request_from_standard_input(model, served):
    request = {"request_time": 1_707_400_000_000, "candidates": [1, 2], "user": {"device": "tv"}}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, "predict", "--server", served, "--model", str(model), "--request", "-"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env=child_environment(),
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["unknown_items"] == 2
    assert sorted(one["item"] for one in answer["candidates"]) == [1, 2]
    assert answer["candidates"][0]["probability"] == answer["candidates"][1]["probability"]
    assert answer["model_version"] == 1_700_000_000
    assert "IMPORTED []" in done.stderr


def test_replay_prints_the_figures(model, served, tmp_path):
    asked = ["predict", "--server", served, "--model", model, "--timeout", "300", "--replay"]
    code, output, _ = call(*asked, "--json", "--latencies", str(tmp_path / "calls.csv"))
    assert code == 0
    summary = json.loads(output)
    assert len((tmp_path / "calls.csv").read_text().split()) == 1 + summary["requests"]
    assert summary["served_minus_trained_max"] <= 1e-5 and {"requests", "p50_ms", "p99_ms"} <= summary.keys()
    assert all(isinstance(value, (int, float)) for value in summary.values())
    code, output, _ = call(*asked)
    assert code == 0
    assert "overlap_at_100: 100\n" in output


def test_a_model_name_that_the_server_does_not_know_is_one_sentence(model, served):
    code, _, error = call("predict", "--server", served, "--model", model, "--replay", "--model-name", "other")
    assert code == 1
    assert "Servable not found for request: Latest(other)" in sentence(error)


def test_evaluate_prints_a_table_or_json(run, prepared, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    code, output, _ = call("evaluate", "--run", copy, "--prepared", prepared, "--json")
    assert code == 0
    metrics = json.loads(output)["metrics"]
    assert json.loads((copy / "evaluation-test.json").read_text())["metrics"] == metrics
    code, output, _ = call("evaluate", "--run", copy, "--prepared", prepared)
    figures = [f"{metrics[name]:.4f}" for name in ("auc", "gauc", "logloss", "calibration")]
    (line,) = [line for line in output.splitlines() if line.startswith("test ")]
    assert line.split() == ["test", f"{metrics['targets']:,}", f"{metrics['users']:,}", *figures]
    assert "\nnew items " in output
    assert output.splitlines()[-1] == str(copy / "evaluation-test.md")
    assert (copy / "evaluation-test-reliability.png").is_file()


def test_train_and_evaluate_name_their_pages_and_link_them(run, prepared, tmp_path, monkeypatch):
    copy = shutil.copytree(run, tmp_path / "run")
    report = json.loads((copy / "report.json").read_text())
    monkeypatch.setattr("twin_tf.training.train.train_model", lambda *_, **__: dict(report))
    arguments = ("train", "--config", "simulated", "--prepared", prepared, "--run", copy)
    code, output, _ = call(*arguments)
    assert code == 0 and output.splitlines()[-1] == str(copy / "report.md")
    assert all(sentence in output for sentence in report["findings"])
    code, output, _ = call("evaluate", "--run", copy, "--prepared", prepared, "--no-yardsticks", "--json")
    assert code == 0 and json.loads(output)["page"] == str(copy / "evaluation-test.md")
    page = (copy / "report.md").read_text()
    assert "(learning_curve.png)" in page and "* [evaluation-test.md](evaluation-test.md)" in page
    code, output, _ = call(*arguments, "--json")
    assert code == 0 and json.loads(output) == {**report, "page": str(copy / "report.md")}
    assert "* [evaluation-test.md](evaluation-test.md)" in (copy / "report.md").read_text()


@pytest.mark.parametrize(("asked", "deadline"), [(["--replay"], 300.0), (["--request", "-"], 5.0)])
@pytest.mark.parametrize("given", [None, 7.0])
def test_a_replay_has_the_deadline_of_a_batch_job(monkeypatch, model, asked, deadline, given):
    seen = []

    class Client:
        def __init__(self, *_, timeout_s, **__):
            seen.append(timeout_s)
            raise ValueError("far enough")

    monkeypatch.setattr("export.client.client.TwinClient", Client)
    code, _, error = call("predict", "--model", model, *asked, *([] if given is None else ["--timeout", given]))
    assert code == 1 and "far enough" in error
    assert seen == [deadline if given is None else given]


def test_a_failure_is_json_too(tmp_path):
    code, output, error = call("evaluate", "--run", tmp_path, "--prepared", tmp_path, "--json")
    assert code == 2 and json.loads(output)["exit_code"] == 2
    assert json.loads(output)["error"] in error and "is not a run" in error
    code, output, _ = call("evaluate", "--run", tmp_path, "--prepared", tmp_path)
    assert (code, output) == (2, "")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "give either --prepared or --data"),
        (["--data", "simulated", "--prepared", "x"], "give either --prepared or --data"),
        (["--data", "simulate"], "no such data set; did you mean 'simulated'"),
    ],
)
def test_a_comparison_wants_data_or_their_name(tmp_path, given, said):
    code, _, error = call("compare", "--output", tmp_path / "out", *given)
    assert code == 2 and said in sentence(error)


def test_a_comparison_leaves_what_is_not_its_own(tmp_path):
    (tmp_path / "thesis.md").write_text("years of work")
    code, _, error = call("compare", "--data", "simulated", "--output", tmp_path, "--fresh")
    assert code == 2 and "holds something that no comparison wrote" in sentence(error)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.md"]


@pytest.mark.parametrize(
    ("arguments", "again"),
    [
        (("train", "--prepared", "x", "--run", "y"), "go on"),
        (("compare", "--prepared", "x", "--output", "{tmp}/y"), "go on"),
        (("validate", "x"), "begin anew"),
    ],
)
def test_a_stopped_command_says_what_another_call_does(monkeypatch, tmp_path, arguments, again):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    for place in ("training.train.train_model", "experiments.comparison.run.Comparison"):
        monkeypatch.setattr(f"twin_tf.{place}", stopped)
    monkeypatch.setattr("export.gate.validate.validate", stopped)
    code, output, error = call(*(part.format(tmp=tmp_path) for part in arguments))
    assert (code, output) == (1, "")
    assert sentence(error) == f"twin-tf {arguments[0]} was stopped; run it again to {again}"


def test_a_fault_of_ours_shows_whole(monkeypatch):
    def broken(*_, **__):
        raise KeyError("inner")

    monkeypatch.setattr("export.gate.validate.validate", broken)
    with pytest.raises(KeyError, match="inner"):
        call("validate", "x")


def test_the_installed_command_is_this_one():
    script = Path(sys.executable).with_name("twin-tf")
    assert script.exists(), "install the project beside this Python: make setup"
    done = subprocess.run([str(script), "--version"], capture_output=True, text=True, env=os.environ, check=False)
    assert done.stdout.strip() == f"twin-tf, version {__version__}"
