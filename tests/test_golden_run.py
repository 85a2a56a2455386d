"""What earlier code left behind is read by this code: data, run, export. `tests/golden/make_golden.py` made it.

The golden files were made on one kind of processor with TensorFlow 2.21. Another one adds up in another order, and the
graph of an export is older than the code that runs it, so figures are compared with a tolerance: `SCORED` where weights
are only read, `TRAINED` where they are trained on.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from export.local_server.server import start_local_server
from export.session.child_process import child_environment
from tests.golden.make_golden import EXPECTED, VARIANTS, data_of, first_scores, train_arguments, unpack
from tests.patience import PATIENCE_S
from twin_tf.cli.main import main

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::twin_tf.renamed_settings.RenamedSettingWarning"),
]

SCORED, TRAINED = 1e-5, 1e-3
expected = json.loads(EXPECTED.read_text(encoding="utf-8"))


def twin(*arguments):
    """What a command says, run in this process."""
    result = CliRunner().invoke(main, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def assert_alike(found, wanted, tolerance):
    """The same numbers, names and nothing else, at any depth."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            assert_alike(found[key], value, tolerance)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_alike(one, other, tolerance)
    else:
        assert found == (pytest.approx(wanted, abs=tolerance) if isinstance(wanted, float) else wanted)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The golden files; the old export lies under a base path too."""
    root = tmp_path_factory.mktemp("golden")
    unpack(root)
    shutil.copytree(root / "model", root / "serving" / "1700000000")
    return root


def fresh_twin(*arguments):
    """What a command says, run in a process of its own."""
    command = [sys.executable, "-m", "twin_tf.cli", *map(str, arguments), "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=child_environment(), timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def gate(*arguments):
    """The checks of `twin-tf validate`, which must run where nobody has imported TensorFlow."""
    return {check["name"]: check for check in fresh_twin("validate", *arguments)["checks"]}


def assert_same_probes(found, wanted):
    """The same requests, with the same scores of the trainer's."""
    found, wanted = (np.load(Path(model) / "assets.extra/probes.npz") for model in (found, wanted))
    assert found.files == wanted.files
    for name in wanted.files:
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=SCORED, err_msg=name)


def test_the_logs_give_the_golden_records(root):
    logs = [part for log in ("events", "items", "users") for part in (f"--{log}", root / f"raw/{log}.parquet")]
    twin("preprocess", "--config", root / "run/config.yaml", *logs, "--output", root / "again", "--shards", 1)
    golden = [path.relative_to(root / "prepared") for path in (root / "prepared").rglob("*")]
    kept = [path for path in golden if path.suffix in (".tfrecord", ".yaml") or path.parts[0] == "vocabularies"]
    assert len(kept) > 8
    for path in kept:
        if (root / "prepared" / path).is_file():
            assert (root / "again" / path).read_bytes() == (root / "prepared" / path).read_bytes(), path
    assert json.loads((root / "again/manifest.json").read_text())["counts"] == expected["counts"]


def test_the_run_evaluates_to_the_same_metrics(root):
    found = twin("evaluate", "--run", root / "run", "--prepared", root / "prepared")
    assert_alike({key: found[key] for key in expected["evaluation"]}, expected["evaluation"], SCORED)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_of_every_kind_scores_as_it_did(root, name):
    found = first_scores(root / "variants" / name, root / data_of(name))
    assert_alike(found, expected["variants"][name], SCORED)


def test_a_run_killed_in_the_middle_is_trained_to_the_same_end(root):
    assert "weights_version" not in json.loads((root / "stopped/run.json").read_text())
    report = twin(*train_arguments(root, "prepared", "stopped"))
    assert_alike({key: report[key] for key in expected["resumed"]}, expected["resumed"], TRAINED)


def test_a_new_run_starts_from_it(root):
    settings = train_arguments(root, "prepared", "warm", "training.epochs=1")
    report = twin(*settings, "--init-from", root / "run")
    assert report["init_from"]["rows"] == {}  # every table keeps all of its rows
    assert report["loss"][0] < expected["run"]["loss"][0] - 0.01
    assert_alike({key: report[key] for key in expected["warm_start"]}, expected["warm_start"], TRAINED)


def test_the_old_export_passes_the_gate(root):
    checks = gate(root / "model")
    assert checks["parity"]["figures"]["requests"] == 20
    assert checks["signatures"]["detail"].endswith(
        "before there were digests: what its graph puts right it does not say"
    )


@pytest.mark.slow
def test_a_new_export_passes_the_gate_and_answers_as_the_old_one(root):
    twin("export", "--run", root / "run", "--prepared", root / "prepared", "--output", root / "new")
    assert gate(root / "new")["parity"]["ok"]
    assert_same_probes(root / "new", root / "model")


@pytest.mark.slow
def test_the_old_export_is_refreshed(root):
    """Today's code writes the variables under the names that the old graph reads.

    In a process of its own: Keras numbers the layers of a process, and the numbers are a part of the names.
    """
    shutil.copytree(root / "model", root / "watched" / "1700000000")
    report = fresh_twin("refresh", "--base-path", root / "watched", "--run", root / "run")
    assert report["items"] == 120
    assert "max_candidates" not in json.loads((Path(report["path"]) / "assets.extra/export.json").read_text())
    assert_same_probes(report["path"], root / "model")


def test_the_old_export_answers_requests_as_it_did(root):
    with start_local_server(root / "serving") as server:
        for place, asked in enumerate(expected["predict"]):
            request = root / f"request-{place}.json"
            request.write_text(json.dumps(asked["request"]), encoding="utf-8")
            given = ("--server", server.address, "--model", root / "model", "--request", request, "--timeout", 60)
            answer = twin("predict", *given)
            assert answer.pop("adjusted") is None  # its graph adjusts and does not say so
            times = [behaviour["time"] for behaviour in asked["request"].get("history", ())]
            assert answer.pop("behaviours_seen") == sum(time < asked["request"]["request_time"] for time in times)
            assert_alike(answer, asked["answer"], SCORED)
