"""Steps that wait for every replica: on two devices, and on two workers."""

import json
import socket
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from tests.patience import PATIENCE_S
from tests.twin_tf.local_cluster import free_addresses, local_cluster, twin_tf
from tests.twin_tf.small_run import decode, small_config
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.records.input_pipeline import make_dataset
from twin_tf.training.strategies import distribute, is_chief, lost_processes_named, make_strategy
from twin_tf.training.tf_config import Task

pytestmark = pytest.mark.integration

TWO_REPLICAS = Path(__file__).parents[1] / "two_replicas.py"
SERVE = """
import json, sys
from twin_tf.training.tf_config import Task
from twin_tf.training.parameter_server import serve
cluster = json.loads(sys.argv[1])
print("starts", flush=True)
serve(Task("ps", 0, cluster), grace=1.0)
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory, prepared):
    path = tmp_path_factory.mktemp("strategies") / "config.yaml"
    small_config("training.epochs=1").save(path)
    return path


def test_two_replicas_learn_what_one_learns_from_the_same_batches(config, prepared):
    done = subprocess.run(
        [sys.executable, str(TWO_REPLICAS), str(prepared), str(config)],
        env={"PYTHONPATH": ".", "TF_CPP_MIN_LOG_LEVEL": "3", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    facts = json.loads(done.stdout.splitlines()[-1])
    one, two = np.array(facts["losses"]).T
    np.testing.assert_allclose(two, one, atol=1e-5)
    assert facts["difference"] < 1e-3  # AdaGrad and Adam divide by small sums at first: rounding shows
    assert max(map(max, facts["sizes"])) == 2  # half of training.batch_records
    assert len(one) == 6


def test_two_workers_learn_the_same_and_one_writes_the_run(config, prepared, manifest, tmp_path):
    run = tmp_path / "run"
    with local_cluster(tmp_path, worker=2) as cluster:
        for index in range(2):
            command = twin_tf("train", "--json", strategy="multi_worker", config=config, prepared=prepared, run=run)
            cluster.start("worker", index, command, TMPDIR=str(tmp_path))
        reports = [json.loads(cluster.wait("worker", index)) for index in range(2)]
    assert reports[0]["loss"] == reports[1]["loss"] and np.isfinite(reports[0]["loss"]).all()
    assert reports[0]["valid"] == reports[1]["valid"]  # each scored with its own weights
    assert reports[0]["targets"] == manifest.counts.targets["train"]
    assert reports[0].pop("page") == str(run / "report.md")
    assert json.loads((run / "report.json").read_text()) == reports[0]
    assert not list(tmp_path.glob("twin-not-chief-*"))


def test_batches_are_shared_out_evenly_or_not_at_all():
    strategy = make_strategy("single")
    (batch,) = distribute(strategy, 6, lambda size, share, skip: tf.data.Dataset.from_tensors([size, *share, skip]), 5)
    assert batch.numpy().tolist() == [6, 0, 1, 5]
    assert is_chief(strategy)
    three = types.SimpleNamespace(num_replicas_in_sync=3)
    with pytest.raises(ConfigError, match=r"batch_records 4 must be a multiple of the 3 replicas.*; set it to 6"):
        distribute(three, 4, lambda *_: None)


@pytest.mark.parametrize("shares", [1, 2, 3])  # of 2 files
def test_shares_hold_every_record_once(manifest, shares):
    @tf.function
    def users(index):  # as on a worker of a parameter server cluster
        found = tf.zeros([0], tf.int64)
        for batch in iter(make_dataset(manifest, "train", 300, 4, shuffle_seed=5, share=(index, shares))):
            tf.autograph.experimental.set_loop_options(shape_invariants=[(found, tf.TensorShape([None]))])
            found = tf.concat([found, batch.user_id], axis=0)
        return found

    everything = [record["user/id"] for record in decode(manifest, "train")]
    parts = [users(tf.constant(index, tf.int64)).numpy().tolist() for index in range(shares)]
    assert sorted(sum(parts, [])) == sorted(everything)
    assert all(parts)
    same = make_dataset(manifest, "train", 300, 4, shuffle_seed=5, share=(shares - 1, shares))
    assert [user for batch in same for user in batch.user_id.numpy().tolist()] == parts[-1]


def test_a_server_trains_nothing_by_itself():
    task = Task("worker", 1, {"chief": ("a:1",), "worker": ("b:1", "c:1"), "ps": ("d:1",)})
    with pytest.raises(ConfigError, match="a worker of --strategy parameter_server serves the chief; it cannot train"):
        make_strategy("parameter_server", task)


def test_servers_end_when_the_chief_has_gone():
    with socket.socket() as chief:
        chief.bind(("127.0.0.1", 0))
        chief.listen()
        address = f"127.0.0.1:{chief.getsockname()[1]}"
        worker, ps = free_addresses(2)
        cluster = json.dumps({"chief": [address], "worker": [worker], "ps": [ps]})
        server = subprocess.Popen(
            [sys.executable, "-c", SERVE, cluster], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            chief.settimeout(60)
            chief.accept()[0].close()  # it has looked for the chief
            assert server.poll() is None
            chief.close()
            assert server.wait(timeout=PATIENCE_S) == 0
        finally:
            server.kill()
            server.wait()


@pytest.mark.parametrize(
    ("message", "who"),
    [
        ("error from remote target /job:ps/replica:0/task:1 while calling", "ps 1 of the cluster is gone; start"),
        ("socket closed", "a process of the cluster is gone; start"),
    ],
)
def test_a_lost_process_is_one_sentence(message, who):
    with pytest.raises(ConnectionError, match=who), lost_processes_named():
        raise tf.errors.UnavailableError(None, None, message)
