"""Where training runs: on this machine, on all its devices, or on the cluster that TF_CONFIG describes.

| strategy | TF_CONFIG | what happens |
|---|---|---|
| `single` | none | one replica on the first device |
| `mirrored` | none | one replica a device; every step waits for all of them |
| `multi_worker` | `worker` tasks, with or without a `chief` | one replica a device of every task; every step waits for all |
| `parameter_server` | one `chief`, `worker` and `ps` tasks | tables lie in shards on the ps; workers train without waiting |

How to start each process: docs/distributed.md.
"""

import socket
import time

from twin_tf.cluster import StrategyName, Task
from twin_tf.keras_api import tf
from twin_tf.strict_yaml import ConfigError

MIN_SHARD_BYTES = 256 << 10
"""A table is cut into shards of at least this many bytes, at most one a parameter server."""

CHIEF_GRACE_SECONDS = 30.0
"""How long workers and parameter servers wait for a chief that has gone, before they end."""

_POLL_SECONDS = 1.0


def make_strategy(
    name: StrategyName, task: Task | None = None, *, min_shard_bytes: int = MIN_SHARD_BYTES
) -> tf.distribute.Strategy:
    """The strategy; to be called before anything else is done with TensorFlow.

    Args:
        name: which one.
        task: of `cluster.read_task`.
        min_shard_bytes: under `parameter_server`, what a shard of a table holds at least.

    Raises:
        ConfigError: a task that does not train but serves, see `serve`.
    """
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if task is None:
        return tf.distribute.get_strategy()
    if name == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy(_resolver(task))
    if not task.is_chief:
        raise ConfigError(f"a {task.type} of --strategy parameter_server serves the chief; it cannot train by itself")
    partitioner = tf.distribute.experimental.partitioners.MinSizePartitioner(
        min_shard_bytes=min_shard_bytes, max_shards=len(task.cluster["ps"])
    )
    return tf.distribute.ParameterServerStrategy(_resolver(task), variable_partitioner=partitioner)


def serves(name: StrategyName, task: Task | None) -> bool:
    """Whether this process only serves the chief: the workers and parameter servers of `parameter_server`."""
    return name == "parameter_server" and task is not None and not task.is_chief


def serve(task: Task, grace: float = CHIEF_GRACE_SECONDS) -> None:
    """Runs a worker or a parameter server until the chief, once seen, has been gone for `grace` seconds.

    Args:
        task: this process.
        grace: seconds; long enough for a chief that is restarted.

    Raises:
        ConfigError: the task's own address cannot be bound.
    """
    resolver = _resolver(task)
    try:
        server = tf.distribute.Server(
            resolver.cluster_spec(), job_name=task.type, task_index=task.index, protocol="grpc", start=True
        )
    except tf.errors.OpError as error:
        address = task.cluster[task.type][task.index]
        raise ConfigError(f"{task.type} {task.index} cannot listen on {address}: {error.message}") from error
    last_seen: float | None = None
    while last_seen is None or time.monotonic() - last_seen < grace:
        if _listens(task.cluster["chief"][0]):
            last_seen = time.monotonic()
        time.sleep(_POLL_SECONDS)
    del server  # it must live until here


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def _resolver(task: Task) -> tf.distribute.cluster_resolver.ClusterResolver:
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({name: list(addresses) for name, addresses in task.cluster.items()}),
        task_type=task.type,
        task_id=task.index,
        rpc_layer="grpc",
    )
