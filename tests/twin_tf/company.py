"""The first update of a user's rows, alone and in company, under a strategy: `single|mirrored|parameter_server FORM`.

Prints JSON: `start`, every table, and for each batch the update of every table from there. The cluster of parameter
servers is two servers and a worker within this process; the step is that of the shipped `PortionTrainer`.
"""

import json
import sys
from typing import Any

import numpy as np

from tests.twin_tf.local_cluster import free_addresses
from tests.twin_tf.toy import make_batch, make_model, make_schema, take_users
from twin_tf.core.keras_api import tf
from twin_tf.features.schema import FeatureSchema, schema_from_mapping
from twin_tf.models.twin import TwinModel
from twin_tf.records.batch import Batch
from twin_tf.records.input_pipeline import batch_spec
from twin_tf.training.parameter_server import PortionTrainer
from twin_tf.training.strategies import distribute, make_strategy
from twin_tf.training.tf_config import Task
from twin_tf.training.train_step import TrainStep
from twin_tf.training.warm_start import embedding_tables
from twin_tf.training_settings import TrainingConfig

USERS = {"alone": [0], "others": list(range(1, 8)), "together": list(range(8)), "twice": [0, 0]}
"""Batch -> its users; A is user 0. `twice` has A's record in both halves."""

SMALL = 0.02
"""Standard deviation of every table at the start: next to a number of order 1, rounding hides 1e-5 of an update."""


def schema() -> FeatureSchema:
    """The toy schema; `play_time` has more rows than are ever read whole."""
    plain: dict[str, Any] = make_schema().to_plain()
    (play_time,) = [feature for feature in plain["features"] if feature["name"] == "play_time"]
    play_time["encoding"] = {"kind": "identity", "size": 5000}
    return schema_from_mapping(plain)


def toy_batch() -> Batch:
    """Eight users of 12 targets each; A has a sex, a page and items of its own, and shares all else."""
    generator = np.random.default_rng(3)
    batch = make_batch(generator, [30, 12, 25, 8, 30, 17, 9, 22], targets_per_user=12, schema=schema())
    play_time = generator.integers(2, 5000, batch.history.item.shape)
    page = generator.integers(3, 6, batch.targets.item.shape)
    page[0] = 2
    of_a = np.arange(8)[:, None] == 0
    items = [np.where(of_a, i % 14 + 2, i % 26 + 16) for i in (batch.history.item.numpy(), batch.targets.item.numpy())]
    return batch._replace(
        history=batch.history._replace(
            item=tf.constant(items[0], tf.int32), cross={"play_time": tf.constant(play_time, tf.int32)}
        ),
        targets=batch.targets._replace(
            item=tf.constant(items[1], tf.int32), context={"page": tf.constant(page, tf.int32)}
        ),
        user={"sex": tf.constant([2, *[3] * 7], tf.int32)},
    )


def halves(batch: Batch) -> list[Batch]:
    """What each of two replicas gets; the second may be empty."""
    users = int(batch.user_id.shape[0])
    first = -(-users // 2)
    return [take_users(batch, list(range(first))), take_users(batch, np.arange(first, users, dtype=np.int32))]


def make_trainer(strategy: tf.distribute.Strategy, form: str) -> TrainStep:
    """The shipped defaults, with the table gradient `form`; DARE's and the auxiliary twin's tables are there too."""
    config = TrainingConfig(table_gradient=form)
    with strategy.scope():
        model = make_model(
            training=config,
            schema=schema(),
            decoupled_embeddings=True,
            consistency="auxiliary",
            relevance_statistics=False,
            short_term_length=0,
        )
    for _, table in embedding_tables(model):
        start = tf.convert_to_tensor(table)
        table.assign(start * SMALL / tf.math.reduce_std(start))
    return TrainStep(model, config, strategy)


def step(trainer: TrainStep, batch: Batch) -> None:
    """One update by the shipped step of the trainer's strategy."""
    strategy = trainer.strategy
    if isinstance(strategy, tf.distribute.ParameterServerStrategy):
        held = tf.nest.map_structure(lambda tensor: tensor.numpy(), batch)
        portions = PortionTrainer(
            strategy, trainer.replica_step, lambda epoch, share: tf.data.Dataset.from_tensors(held), records=1
        )
        assert sum(int(learned.steps) for learned in portions.rounds(0)) == 1
    elif strategy.num_replicas_in_sync == 2:
        spec = batch_spec(trainer.model.schema)
        parts = distribute(
            strategy, 2, lambda *_: tf.data.Dataset.from_generator(lambda: halves(batch), output_signature=spec)
        )
        trainer.expect(parts.element_spec)
        trainer.step(next(iter(parts)))
    else:
        trainer.step(batch)


def tables(model: TwinModel) -> dict[str, Any]:
    """Every table by a name of its own."""
    found: dict[str, Any] = {}
    for feature, table in embedding_tables(model):
        names = (f"{feature.name}{place}" for place in range(4))
        found[next(name for name in names if name not in found)] = tf.convert_to_tensor(table).numpy()
    return found


def two_servers_and_a_worker() -> tf.distribute.Strategy:
    """A cluster within this process; its tables are cut in two."""
    chief, worker, *ps = free_addresses(4)
    cluster = {"chief": (chief,), "worker": (worker,), "ps": tuple(ps)}
    for job, index in (("worker", 0), ("ps", 0), ("ps", 1)):
        tf.distribute.Server({name: list(found) for name, found in cluster.items()}, job_name=job, task_index=index)
    return make_strategy("parameter_server", Task("chief", 0, cluster), min_shard_bytes=64)


def main() -> None:
    name, form = sys.argv[1:]
    if name == "mirrored":
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = two_servers_and_a_worker() if name == "parameter_server" else make_strategy(name)
    batch, updates = toy_batch(), {}
    trainer = make_trainer(strategy, form)
    variables = [*trainer.model.variables, *trainer.optimizer.variables()]
    start = [variable.numpy() for variable in variables]
    for company, users in USERS.items():
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        before = tables(trainer.model)
        step(trainer, take_users(batch, users))
        updates[company] = {n: (now - before[n]).tolist() for n, now in tables(trainer.model).items()}
    print(json.dumps({**updates, "start": {n: rows.tolist() for n, rows in before.items()}}), flush=True)


if __name__ == "__main__":
    main()
