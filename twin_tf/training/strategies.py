"""Where training runs: on this machine, on all its devices, or on the cluster that TF_CONFIG describes.

| strategy | TF_CONFIG | what happens |
|---|---|---|
| `single` | none | one replica on the first device |
| `mirrored` | none | one replica a device; every step waits for all of them |
| `multi_worker` | `worker` tasks, with or without a `chief` | one replica a device of every task; every step waits |
| `parameter_server` | one `chief`, `worker` and `ps` tasks | tables in shards on the ps; workers never wait |

How to start each process: docs/distributed.md.
"""

import contextlib
import re
from collections.abc import Callable, Iterator

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.records.batch import Batch
from twin_tf.training.tf_config import StrategyName, Task

MIN_SHARD_BYTES = 256 << 10
"""A table is cut into shards of at least this many bytes, at most one a parameter server."""


Share = tuple[int | tf.Tensor, int]
"""`(i, n)`: the i-th of n shares of the records."""


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
        return tf.distribute.MultiWorkerMirroredStrategy(resolver(task))
    if not task.is_chief:
        raise ConfigError(f"a {task.type} of --strategy parameter_server serves the chief; it cannot train by itself")
    partitioner = tf.distribute.experimental.partitioners.MinSizePartitioner(
        min_shard_bytes=min_shard_bytes, max_shards=len(task.cluster["ps"])
    )
    return tf.distribute.ParameterServerStrategy(resolver(task), variable_partitioner=partitioner)


def distribute(
    strategy: tf.distribute.Strategy,
    batch_records: int,
    read: Callable[[int, Share, int], tf.data.Dataset],
    steps_done: int = 0,
) -> tf.data.Dataset:
    """The batches of one pass, each replica's own: every reader takes its share of the records.

    A worker whose share ends early goes on with empty batches until all have ended, since every step waits for all.

    Args:
        strategy: not a ParameterServerStrategy, see `parameter_server`.
        batch_records: records in a step, of all replicas together.
        read: (records in a batch, `(i, n)`, batches to skip) -> batches of the i-th of n shares.
        steps_done: of the pass, which are left out.

    Raises:
        ConfigError: `batch_records` cannot be divided among the replicas.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_records % replicas:
        raise ConfigError(
            f"training.batch_records {batch_records} must be a multiple of the {replicas} replicas, which "
            f"share it; set it to {-(-batch_records // replicas) * replicas}"
        )

    def share(context: tf.distribute.InputContext) -> tf.data.Dataset:
        readers = context.num_input_pipelines
        return read(batch_records // replicas, (context.input_pipeline_id, readers), steps_done * replicas // readers)

    return strategy.distribute_datasets_from_function(share)


def local_batch(strategy: tf.distribute.Strategy, batch: Batch) -> Batch:
    """Of a batch of `distribute`, that of this process's first replica."""
    return tf.nest.map_structure(lambda values: strategy.experimental_local_results(values)[0], batch)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run; every process does that trains alone."""
    place = strategy.cluster_resolver
    if place is None or not place.task_type:
        return True
    cluster = {name: tuple(addresses) for name, addresses in place.cluster_spec().as_dict().items()}
    return Task(place.task_type, place.task_id, cluster).is_chief


@contextlib.contextmanager
def lost_processes_named() -> Iterator[None]:
    """Says in one sentence that a process of the cluster has gone.

    Raises:
        ConnectionError: in place of TensorFlow's error.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
        found = re.search(r"/job:(\w+)/replica:\d+/task:(\d+)", error.message)
        who = f"{found[1]} {found[2]}" if found else "a process"
        raise ConnectionError(
            f"{who} of the cluster is gone; start what has ended again, with the same TF_CONFIG: docs/distributed.md"
        ) from error


def resolver(task: Task) -> tf.distribute.cluster_resolver.ClusterResolver:
    """What TensorFlow asks about a cluster."""
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({name: list(addresses) for name, addresses in task.cluster.items()}),
        task_type=task.type,
        task_id=task.index,
        rpc_layer="grpc",
    )
