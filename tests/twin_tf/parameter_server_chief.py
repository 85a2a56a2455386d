"""The chief of the test's parameter server cluster: `PREPARED RUN CONFIG OTHER_RUN`, the last trained by one process.

Its tables are cut into shards although they are small. Prints what it saw as JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np

from twin_tf.config import load_config
from twin_tf.core.keras_api import tf
from twin_tf.runs.run import CHECKPOINTS, build_model, load_info
from twin_tf.training.strategies import make_strategy
from twin_tf.training.tf_config import read_task
from twin_tf.training.train import train_model
from twin_tf.training.train_step import TrainStep


def restored(other: Path, run: Path, strategy: tf.distribute.Strategy) -> dict[str, object]:
    """Restores a checkpoint of one process into shards."""
    config = load_config(other / "config.yaml")
    with strategy.scope():
        model, _ = build_model(other, config, load_info(other))
    trainer = TrainStep(model, config.training, strategy)
    path = tf.train.latest_checkpoint(str(other / CHECKPOINTS))
    status = tf.train.Checkpoint(model=model, optimizer=trainer.optimizer).restore(path)
    status.assert_existing_objects_matched()
    table = model.item_embedding.tables[0]
    slot = trainer.optimizer.optimizers[0].get_slot(table, "accumulator")
    np.savez(run.parent / "restored.npz", table=tf.convert_to_tensor(table), slot=tf.convert_to_tensor(slot))
    return {
        "shards": {
            table.name if hasattr(table, "name") else "table": [shard.device for shard in table.variables]
            for table in model.item_embedding.tables
            if hasattr(table, "variables")
        },
    }


def main() -> None:
    prepared, run, config, other = map(Path, sys.argv[1:])
    strategy = make_strategy("parameter_server", read_task("parameter_server"), min_shard_bytes=2048)
    facts = restored(other, run, strategy)
    report = train_model(prepared, run, load_config(config), strategy=strategy)
    print(json.dumps({**facts, "report": report}))


if __name__ == "__main__":
    main()
