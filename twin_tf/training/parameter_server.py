"""Training on a cluster of parameter servers: the tables lie in shards on the ps, workers train without waiting.

The chief has an epoch trained in rounds of one portion a worker; a portion is a share of the records that one worker
reads, shuffles, batches and trains on, on its own. Every record belongs to one portion, so an epoch trains on it once.
The portion of a worker that dies goes to another, from its beginning: those records may then count twice.
"""

import ctypes
import socket
import time
from collections.abc import Callable, Iterator

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import tf
from twin_tf.records.batch import Batch
from twin_tf.training.strategies import Share, resolver
from twin_tf.training.tf_config import Task
from twin_tf.training.train_step import StepStats, finite_or_stop

CHIEF_GRACE_SECONDS = 30.0
"""How long workers and parameter servers wait for a chief that has gone, before they end."""

PORTION_RECORDS = 4096
"""Records of a portion: as many as are shuffled together; fewer where workers would stand idle."""

_POLL_SECONDS = 1.0


class PortionTrainer:
    """Has the workers train the portions of epochs.

    Args:
        strategy: whose scope the model and its optimisers were made in.
        step: trains on a batch; runs on the workers, in the strategy's replica context.
        read: (epoch, `(i, n)`) -> batches of the i-th of n shares; called within a graph, `i` is a tensor.
        records: of an epoch.

    Raises:
        ConfigError: workers with several GPUs.
    """

    def __init__(
        self,
        strategy: tf.distribute.ParameterServerStrategy,
        step: Callable[[Batch], StepStats],
        read: Callable[[int, Share], tf.data.Dataset],
        records: int,
    ) -> None:
        if strategy.num_replicas_in_sync > 1:
            raise ConfigError(
                f"each worker of --strategy parameter_server must see one GPU, not {strategy.num_replicas_in_sync}; "
                "start a worker for each GPU with its own CUDA_VISIBLE_DEVICES"
            )
        self._strategy = strategy
        self._step = step
        self._read = read
        self._workers = sum("/job:worker/" in device.name for device in tf.config.list_logical_devices("CPU"))
        self._rounds = max(1, -(-records // (self._workers * PORTION_RECORDS)))
        self._coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        # Its destructor waits for workers that have died, for ever: it must not run when Python ends.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._coordinator))

    def rounds(self, epoch: int, done: int = 0) -> Iterator[StepStats]:
        """Trains an epoch in rounds, each a portion for every worker; between two, nothing is on its way.

        Args:
            epoch: which.
            done: rounds that are left out.

        Raises:
            FloatingPointError: a loss or its gradient is not finite.
        """
        train = self._function(epoch)
        for first in range(done * self._workers, self._rounds * self._workers, self._workers):
            with finite_or_stop():
                portions = [
                    self._coordinator.schedule(train, args=(tf.constant(first + place, tf.int64),))
                    for place in range(self._workers)
                ]
                self._coordinator.join()
                learned = StepStats(*(sum(parts) for parts in zip(*(one.fetch() for one in portions), strict=True)))
            yield learned

    def _function(self, epoch: int) -> Callable[[tf.Tensor], StepStats]:
        @tf.function
        def train(number: tf.Tensor) -> StepStats:
            total = StepStats(tf.constant(0.0), tf.constant(0.0), tf.constant(0), tf.constant(0), tf.constant(0))
            for batch in iter(self._read(epoch, (number, self._rounds * self._workers))):
                learned = self._strategy.run(self._step, args=(batch,))
                total = StepStats(*(sum_ + part for sum_, part in zip(total, learned, strict=True)))
            return total

        return train


def serve(task: Task, grace: float = CHIEF_GRACE_SECONDS) -> None:
    """Runs a worker or a parameter server until the chief, once seen, has been gone for `grace` seconds.

    Args:
        task: this process.
        grace: seconds; long enough for a chief that is restarted.

    Raises:
        ConfigError: the task's own address cannot be bound.
    """
    try:
        server = tf.distribute.Server(
            resolver(task).cluster_spec(), job_name=task.type, task_index=task.index, protocol="grpc", start=True
        )
    except tf.errors.OpError as error:
        address = task.cluster[task.type][task.index]
        raise ConfigError(f"{task.type} {task.index} cannot listen on {address}; is the port taken?") from error
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
