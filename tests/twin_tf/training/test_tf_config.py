"""TF_CONFIG is read as TensorFlow's users write it, and every mistake in it is one sentence."""

import json
import subprocess
import sys

import pytest

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.training.tf_config import read_task

pytestmark = pytest.mark.integration

CLUSTER = {"chief": ["a:1"], "worker": ["b:2", "c:3"], "ps": ["d:4", "e:5"]}


def tf_config(cluster, **task):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task, "environment": "cloud"})}


def test_a_task_of_a_parameter_server_cluster():
    task = read_task("parameter_server", tf_config(CLUSTER, type="worker", index=1))
    assert (task.type, task.index, task.is_chief) == ("worker", 1, False)
    assert task.cluster == {name: tuple(addresses) for name, addresses in CLUSTER.items()}
    assert read_task("parameter_server", tf_config(CLUSTER, type="chief")).is_chief
    assert not read_task("parameter_server", tf_config(CLUSTER, type="worker", index=0)).is_chief


def test_without_a_chief_the_first_worker_writes_the_run():
    alone = {"worker": ["b:2", "c:3"]}
    assert read_task("multi_worker", tf_config(alone, type="worker", index=0)).is_chief
    assert not read_task("multi_worker", tf_config(alone, type="worker", index=1)).is_chief
    led = {"chief": ["a:1"], **alone}
    assert not read_task("multi_worker", tf_config(led, type="worker", index=0)).is_chief


def test_strategies_of_one_machine_need_no_cluster():
    one = tf_config({"chief": ["a:1"]}, type="chief")  # what cloud services set even for a single machine
    for strategy in ("single", "mirrored"):
        for environment in ({}, {"TF_CONFIG": ""}, {"TF_CONFIG": "{}"}, one):
            assert read_task(strategy, environment) is None


def test_a_cluster_that_nobody_would_use_is_refused():
    with pytest.raises(ConfigError, match="a cluster of 5 tasks, but --strategy single uses this machine"):
        read_task("single", tf_config(CLUSTER, type="worker", index=1))


def without(name):
    return {key: value for key, value in CLUSTER.items() if key != name}


@pytest.mark.parametrize(
    ("strategy", "environment", "words"),
    [
        ("parameter_server", {}, "--strategy parameter_server needs the environment variable TF_CONFIG: JSON with"),
        ("multi_worker", {"TF_CONFIG": " "}, "--strategy multi_worker needs the environment variable TF_CONFIG"),
        ("parameter_server", {"TF_CONFIG": "{'a': 1}"}, "TF_CONFIG is not valid JSON: .*property name"),
        ("parameter_server", {"TF_CONFIG": "[1]"}, r"must be a JSON object with cluster and task, not \[1\]"),
        ("parameter_server", {"TF_CONFIG": "{}"}, "has no cluster: the addresses of chief, worker, ps tasks"),
        ("parameter_server", tf_config(without("chief"), type="ps"), "cluster has no chief; .* needs at least one"),
        ("parameter_server", tf_config(without("worker"), type="ps"), "cluster has no worker"),
        ("parameter_server", tf_config(without("ps"), type="chief"), "cluster has no ps"),
        ("parameter_server", tf_config(CLUSTER | {"chief": ["a:1", "f:2"]}, type="ps"), "must have one chief, not 2"),
        ("parameter_server", tf_config(CLUSTER), "TF_CONFIG has no task: it says which process of the cluster"),
        ("parameter_server", tf_config(CLUSTER, type="boss"), r"type 'boss' is none of its cluster's \(chief, worker,"),
        ("parameter_server", tf_config(CLUSTER, type=["ps"]), r"task type \['ps'\] is none of its cluster's"),
        ("parameter_server", tf_config(CLUSTER, type="evaluator"), "with `twin-tf evaluate`"),
        ("parameter_server", tf_config(CLUSTER, type="ps", index=2), "index 2 is out of range: the cluster has 2 ps"),
        ("parameter_server", tf_config(CLUSTER, type="ps", index="2"), "index 2 is out of range"),
        ("parameter_server", tf_config(CLUSTER, type="ps", index="x"), "index 'x' is out of range"),
        ("parameter_server", tf_config(CLUSTER | {"ps": ["d:99999"]}, type="ps"), "a port from 1 to 65535"),
        ("parameter_server", tf_config(CLUSTER | {"pss": ["a:1"]}, type="ps"), "task type 'pss'.*did you mean 'ps'"),
        ("parameter_server", tf_config(CLUSTER | {"ps": "d:4"}, type="ps"), "give ps a list of addresses, not 'd:4'"),
        ("parameter_server", tf_config(CLUSTER | {"ps": ["d"]}, type="ps"), "ps address 'd'; it must read host:port"),
        ("multi_worker", tf_config(CLUSTER, type="worker"), "task type 'ps', which --strategy multi_worker does not"),
        ("mirorred", {}, "strategy 'mirorred' is unknown; did you mean 'mirrored'"),
    ],
)
def test_every_mistake_is_one_sentence(strategy, environment, words):
    with pytest.raises(ConfigError, match=words) as caught:
        read_task(strategy, environment)
    assert "\n" not in str(caught.value)


def test_the_process_own_environment_is_read(monkeypatch):
    for name, value in tf_config(CLUSTER, type="ps", index=1).items():
        monkeypatch.setenv(name, value)
    assert read_task("parameter_server").index == 1
    assert read_task("parameter_server", tf_config(CLUSTER, type="ps", index="1")).index == 1


def test_a_bad_cluster_costs_no_start_of_tensorflow():
    code = "import sys, twin_tf.training.tf_config; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
