"""Training by a chief, 2 workers and 2 parameter servers, one worker killed on the way: the whole chain holds."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from export.saved_model.exporter import export_run
from export.session.cpp_session import CppSession
from tests.twin_tf.local_cluster import local_cluster, twin_tf
from tests.twin_tf.small_run import read_json, small_config, untrained
from twin_tf.core.keras_api import tf
from twin_tf.evaluation.evaluate import evaluate_run
from twin_tf.runs.run import load_run

pytestmark = pytest.mark.integration

CHIEF = Path(__file__).parents[1] / "parameter_server_chief.py"
EPOCHS = 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory, prepared, run):
    """(the directory, what the chief printed)"""
    root = tmp_path_factory.mktemp("parameter-server")
    config = root / "config.yaml"
    small_config(f"training.epochs={EPOCHS}").save(config)
    with local_cluster(root, chief=1, worker=2, ps=2) as cluster:
        command = twin_tf("train", strategy="parameter_server", config=config, prepared=prepared, run=root / "run")
        for task in ("ps", "worker"):
            for index in range(2):
                cluster.start(task, index, command)
        cluster.start("chief", 0, [str(CHIEF), *map(str, (prepared, root / "run", config, run))], PYTHONPATH=".")
        while cluster.runs("chief", 0) and not list(root.glob("run/checkpoints/ckpt-*.json")):
            time.sleep(0.05)
        cluster.kill("worker", 1)
        facts = json.loads(cluster.wait("chief", 0).splitlines()[-1])
        assert all(cluster.runs(*task) for task in (("ps", 0), ("ps", 1), ("worker", 0)))
    return root, facts


def test_every_epoch_is_every_record_once_though_a_worker_dies(trained, manifest):
    report = trained[1]["report"]
    assert report["targets"] == EPOCHS * manifest.counts.targets["train"]
    first, second = report["loss"]
    assert second < first < 0.75
    assert report == read_json(trained[0] / "run/report.json")


def test_the_cluster_knows_how_far_its_sharded_tables_moved(trained):
    root, facts = trained
    found, model = facts["report"]["tables"]["video"], load_run(root / "run").model
    start = untrained(root / "run")[0].item_embedding.tables[0].numpy()
    moved = np.linalg.norm(model.item_embedding.tables[0].numpy() - start, axis=1)
    share = np.median(moved[moved > 0]) / found["start_norm"]
    assert found["moved_median"] == pytest.approx(share, rel=1e-3) and share > 1e-3
    assert found["never_updated"] == pytest.approx((moved[1:] == 0).mean())
    assert found["worth"] != 0


def test_one_process_reads_what_the_cluster_wrote(trained, prepared):
    root, facts = trained
    metrics = evaluate_run(root / "run", prepared, "valid")["metrics"]
    valid = facts["report"]["valid"][-1]
    assert metrics == pytest.approx({name: valid[name] for name in metrics}, abs=1e-6)


def test_the_cluster_reads_what_one_process_wrote(trained, run):
    root, facts = trained
    assert {len(set(shards)) for shards in facts["shards"].values()} == {2}  # on both parameter servers
    checkpoint = tf.train.load_checkpoint(str(run / "checkpoints"))
    key = "model/item_embedding/embedding_video/{}.ATTRIBUTES/VARIABLE_VALUE"
    with np.load(root / "restored.npz") as file:
        np.testing.assert_array_equal(file["table"], load_run(run).model.item_embedding.tables[0])
        slot = checkpoint.get_tensor(key.format(".OPTIMIZER_SLOT/optimizer/Optimizer0/accumulator/"))
        np.testing.assert_array_equal(file["slot"], slot)


def test_the_export_loads_in_the_servers_own_runtime(trained, prepared):
    root, _ = trained
    export_run(root / "run", root / "model", prepared)
    with CppSession(root / "model") as session, np.load(root / "model/assets.extra/probes.npz") as file:
        inputs = {name.removeprefix("input/"): file[name] for name in file.files if name.startswith("input/")}
        answers = session.run("serving_default", inputs)
        np.testing.assert_allclose(answers["probability"], file["expected/probability"], atol=1e-6)
        session.run("self_check", {"probe": np.arange(8, dtype=np.int32)})
