"""The paper's figure 4: of the 100 behaviours that the ESU would rank highest, how many the GSU retrieves.

    python -m twin_tf.experiments.comparison.consistency --run=run --prepared=prepared --records=40 [--ages=0,100,...]

The oracle is each system's own ESU: eq. 6 with its own parameters over every behaviour. With `--ages`, also how many
the search finds when its projection table is so many training steps old.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from twin_tf.config import Stages
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.errors import UserError
from twin_tf.core.keras_api import graph, tf
from twin_tf.layers.gsu import Retrieved, share_found
from twin_tf.models.twin import TwinModel
from twin_tf.records.batch import Batch
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import batch_spec, make_dataset
from twin_tf.runs.run import build_model, load_run
from twin_tf.search.protocol import PoolingSearch, SearchStrategy
from twin_tf.search.twin import TwinSearch
from twin_tf.training.train_step import TrainStep

TRUE = 100
"""The exact top-K that are counted."""

SIZES = (10, 20, 50, 100, 200, 500, 1000, 2000, 4000, 10_000)
"""How many behaviours the GSU may retrieve."""

BATCH = 4
WARM_STEPS, REFRESH_STEPS = 300, 50


def hits_by_size(model: TwinModel, manifest: Manifest, records: int) -> list[dict[str, float]] | None:
    """Hits of the true top-100 by the size of the GSU's output; None for a system that chooses no behaviours.

    Targets with fewer behaviours than `TRUE` count too: their true retrieved are all that they have.

    Args:
        model: trained.
        manifest: prepared data, whose test split is looked at.
        records: about how many of it.

    Returns:
        `size` and `share`, the mean over the records weighted by their targets, for every size up to the longest
        history.

    Raises:
        ConfigError: none of these records has any history.
    """
    search, window = model.long_term.search, model.config.history_length
    if isinstance(search, PoolingSearch):
        return None
    sizes = [size for size in SIZES if size < window] + [window]
    own, finder = search.top_k, model.auxiliary or model

    def look(by: TwinModel, strategy: SearchStrategy, batch: Batch, stage: Stages) -> Retrieved:
        cross, items, queries = by._looked_up(batch, None, True)
        return by.long_term.find(strategy, items, queries, batch.history, cross, batch.targets, stage)

    def shares(batch: Batch) -> list[tf.Tensor]:
        true = look(model, TwinSearch(TRUE, window), batch, "attention")
        found = []
        for size in sizes:
            search.top_k = size
            chosen = look(finder, search, batch, "search")
            found.append(share_found(chosen, true, tf.shape(batch.history.item)[1], batch.targets.count))
        search.top_k = own
        return found

    step = graph(shares, batch_spec(manifest.schema))
    total = sum(shard.records for shard in manifest.shards("test"))
    every = max(1, -(-total // records))
    rows, weights = [], []
    for batch in make_dataset(manifest, "test", window, BATCH, every=every):
        found = np.array([share.numpy() for share in step(batch)])
        if np.isfinite(found).all():
            rows.append(found)
            weights.append(int(batch.targets.count.numpy().sum()))
    if not rows:
        raise ConfigError(f"{manifest.directory}: no record of the test split has a history, so nothing can be found")
    means = np.average(rows, axis=0, weights=weights)
    return [{"size": size, "share": float(share)} for size, share in zip(sizes, means, strict=True)]


def hits_by_age(directory: str, manifest: Manifest, ages: Sequence[int], records: int) -> list[dict[str, float]]:
    """Hits of the true top-100 when the projection table is so many training steps old.

    A run of the same settings is trained anew for `WARM_STEPS`, at its starting rates; then its table is left alone
    while it trains on, searching in that table as a cached one is searched online.

    Args:
        directory: the run, for its settings.
        manifest: prepared data.
        ages: rising, from 0 on.
        records: of the valid split, about how many are looked at.

    Returns:
        `age`, `share` and `moved`: how far the projections of the behaviours in these records are from the table's, as
        a share of the table's norm. A high share says little where they hardly moved.
    """
    run = load_run(directory)
    model, _ = build_model(run.directory, run.config, run.info)
    training = dataclasses.replace(run.config.training, projections="cached")
    window = model.window
    total = sum(shard.records for shard in manifest.shards("valid"))
    probes = list(make_dataset(manifest, "valid", window, BATCH, every=max(1, -(-total // records))))
    overlap = graph(model.gsu_overlap, batch_spec(manifest.schema))
    trainer = TrainStep(model, training, tf.distribute.get_strategy())
    steps = iter(
        batch
        for epoch in range(10_000)
        for batch in make_dataset(manifest, "train", window, training.batch_records, shuffle_seed=1, epoch=epoch)
    )
    for done in range(WARM_STEPS):
        if done % REFRESH_STEPS == 0:
            model.refresh_projections()
        trainer.step(next(steps))
    model.refresh_projections()
    items = np.unique(np.concatenate([batch.history.item.numpy().ravel() for batch in probes]))
    table = tf.gather(model.projection_cache, items).numpy()
    found, age = [], 0
    for wanted in ages:
        for _ in range(wanted - age):
            trainer.step(next(steps))
        age = wanted
        shares = np.array([overlap(batch).numpy() for batch in probes])
        moved = np.linalg.norm(model.project_items(tf.constant(items)).numpy() - table) / np.linalg.norm(table)
        found.append({"age": wanted, "share": float(np.nanmean(shares)), "moved": float(moved)})
    return found


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", required=True)
    parser.add_argument("--prepared", required=True)
    parser.add_argument("--records", type=int, default=40)
    parser.add_argument("--ages", default="", help="steps, separated by commas")
    options = parser.parse_args()
    manifest = Manifest.load(options.prepared, verify=False)  # the comparison has checked them
    result: dict[str, Any] = {"by_size": hits_by_size(load_run(options.run).model, manifest, options.records)}
    if options.ages:
        ages = [int(age) for age in options.ages.split(",")]
        result["by_age"] = hits_by_age(options.run, manifest, ages, options.records)
    print(json.dumps(result))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
