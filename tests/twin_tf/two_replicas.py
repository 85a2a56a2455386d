"""Two replicas on two logical CPUs beside one replica on the same global batches: `PREPARED CONFIG`; prints JSON."""

import itertools
import json
import sys

import numpy as np

from twin_tf.config import load_config
from twin_tf.core.keras_api import tf
from twin_tf.models.twin import TwinModel
from twin_tf.records.batch import Batch
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import make_dataset
from twin_tf.runs.run import RunInfo, build_model
from twin_tf.training.strategies import distribute, make_strategy
from twin_tf.training.train_step import TrainStep

STEPS = 6


def joined(parts: list[Batch]) -> Batch:
    """The users of all batches in one, padded to the widest."""

    def together(*tensors: tf.Tensor) -> tf.Tensor:
        widest = np.max([tensor.shape for tensor in tensors], axis=0)
        padded = [
            tf.pad(one, [[0, 0], *([0, wide - own] for wide, own in zip(widest[1:], one.shape[1:], strict=True))])
            for one in tensors
        ]
        return tf.concat(padded, axis=0)

    return tf.nest.map_structure(together, *parts)


def main() -> None:
    prepared, path = sys.argv[1:]
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = make_strategy("mirrored")
    manifest, config = Manifest.load(prepared), load_config(path)
    info = RunInfo(manifest.schema_fingerprint, manifest.cardinalities, prepared)

    def trainer(where: tf.distribute.Strategy) -> TrainStep:
        with where.scope():
            model: TwinModel = build_model(manifest.directory, config, info)[0]
        return TrainStep(model, config.training, where)

    def read(batch_records: int, share: tuple[int, int], skip: int) -> tf.data.Dataset:
        window = alone.model.window
        return make_dataset(manifest, "train", window, batch_records, shuffle_seed=1, share=share, skip=skip)

    alone, both = trainer(make_strategy("single")), trainer(strategy)
    batches = distribute(strategy, config.training.batch_records, read)
    step = tf.function(both.global_step, input_signature=[batches.element_spec])
    losses, sizes = [], []
    for batch in itertools.islice(batches, STEPS):
        parts = [
            tf.nest.map_structure(lambda value, i=i: strategy.experimental_local_results(value)[i], batch)
            for i in range(2)
        ]
        one, two = alone.step(joined(parts)), step(batch)
        losses.append([one.loss, two.loss])
        sizes.append([int(part.targets.count.shape[0]) for part in parts])
    difference = max(
        float(tf.reduce_max(tf.abs(a - strategy.experimental_local_results(b)[i])))
        for a, b in zip(alone.model.trainable_variables, both.model.trainable_variables, strict=True)
        for i in range(2)
    )
    print(json.dumps({"losses": losses, "sizes": sizes, "difference": difference}))


if __name__ == "__main__":
    main()
