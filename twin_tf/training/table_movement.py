"""Whether the embedding tables have learned: how far their rows moved, and what each table is worth.

A table that stays at its random start shows in no metric: random codes tell items apart too. So every training ends
with a look at each table (`report.json`, `tables.<feature>`):

* `start_norm`: mean L2 norm of a row at the start, over the sampled rows: up to 10,000 of those that training updated.
* `moved_median`, `moved_p90`: L2 distance of a sampled row from its start, as a share of `start_norm`.
* `never_updated`: share of all rows, but padding's, that are at their start, their AdaGrad accumulators too;
  `updated_rows`: the number of the others. Both are looked at: a square of a small gradient is lost in the rounding of
  an accumulator of .1, and a gradient of a new row may be lost in the rounding of the row.
* `worth`: log loss of validation records with the table put back to its start, less that of the trained one; above 0
  the table helps. `worth_error` is its standard error: differences are paired by target and summed by user.

The start is drawn again (`layers.table_initializer`); with `--init-from` it is what the earlier run gave, so movement
and worth are those of this training alone. One table at a time is held twice. Names: a feature's own table has the
feature's name, the second one of `decoupled_embeddings` is `relevance.<feature>`, an auxiliary twin's begin with
`auxiliary.`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from twin_tf.evaluation.evaluate import Evaluator
from twin_tf.evaluation.metrics import PROBABILITY_FLOOR
from twin_tf.features.schema import UNKNOWN
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import make_dataset
from twin_tf.training.table_rows import Floats, Rows, Table, named_tables
from twin_tf.training.train_step import TrainStep
from twin_tf.training.warm_start import EarlierWeights
from twin_tf.training_settings import TrainingConfig

SAMPLED_ROWS = 10_000
COST = 0.06
"""Records that are scored for all tables together, as a share of those trained on. So few records make small batches,
in which scoring one takes nearly as long as training on it does in large ones."""

FEWEST_RECORDS, MOST_RECORDS = 24, 500
"""Of the validation records that a table's worth is measured with; they are held in memory."""


def measure_tables(
    trainer: TrainStep, manifest: Manifest, evaluator: Evaluator, records: int, earlier: EarlierWeights | None = None
) -> dict[str, dict[str, float | None]]:
    """Looks at every table of a trained model; the model is the same afterwards.

    Args:
        trainer: of the model, with its optimisers as they ended.
        manifest: of the data it was trained on.
        evaluator: of the model.
        records: it was trained on, for the cost.
        earlier: what the tables started from, if not from random rows.

    Returns:
        Name of the table -> its figures, see above; `worth` and its error are None without validation records.
    """
    tables = list(named_tables(trainer.model))
    limit = int(COST * records / (len(tables) + 1))
    losses = _Losses.sample(evaluator, manifest, trainer.config, limit)
    found = {}
    for table in tables:
        movement = _Movement(trainer, table, earlier)
        figures = movement.figures(np.random.default_rng(trainer.config.seed))
        worth, error = (None, None) if losses is None else movement.worth(losses)
        found[table.name] = {**figures, "worth": worth, "worth_error": error}
    return found


class _Movement:
    """One table, as it is and as it started."""

    def __init__(self, trainer: TrainStep, table: Table, earlier: EarlierWeights | None) -> None:
        self._table = trainer.table_rows(table)
        self._start, self._accumulator = self._table.start, self._table.empty
        if earlier is not None:
            rows = self._table.rows
            before = earlier.table(table.variable, self._start(0, rows))
            held = earlier.accumulator(table.variable, self._accumulator(0, rows))
            self._start = lambda first, last: before[first:last]
            self._accumulator = lambda first, last: held[first:last]

    def figures(self, generator: np.random.Generator) -> dict[str, float]:
        """Norm, movement and share of rows never updated."""
        table = self._table
        updated = np.union1d(_changed(table.accumulators(), self._accumulator), _changed(table.blocks(), self._start))
        updated = updated[updated >= UNKNOWN]
        rows = table.rows - UNKNOWN
        sampled = updated if len(updated) else np.arange(UNKNOWN, table.rows)
        if len(sampled) > SAMPLED_ROWS:
            sampled = np.sort(generator.choice(sampled, SAMPLED_ROWS, replace=False))
        norms, moved = [np.zeros(0)], [np.zeros(0)]
        for first, last, now in table.blocks():
            inside = sampled[(sampled >= first) & (sampled < last)] - first
            if len(inside):
                start = self._start(first, last)[inside]
                norms.append(np.linalg.norm(start, axis=1))
                moved.append(np.linalg.norm(now[inside] - start, axis=1))
        norm = float(np.concatenate(norms).mean())
        share = np.concatenate(moved) / norm
        return {
            "start_norm": norm,
            "moved_median": float(np.median(share)) if len(updated) else 0.0,
            "moved_p90": float(np.quantile(share, 0.9)) if len(updated) else 0.0,
            "never_updated": 1 - len(updated) / rows,
            "updated_rows": len(updated),
        }

    def worth(self, losses: "_Losses") -> tuple[float, float]:
        """What the table is worth, and the standard error."""
        trained = [now for _, _, now in self._table.blocks()]
        try:
            self._table.write(self._start)
            return losses.rise()
        finally:
            pieces = iter(trained)
            self._table.write(lambda *_: next(pieces))


def _changed(blocks: Iterator[tuple[int, int, Floats]], start: Rows) -> npt.NDArray[np.int64]:
    """The rows in which any number is not as it started."""
    return np.concatenate(
        [first + np.flatnonzero((now != start(first, last)).any(axis=1)) for first, last, now in blocks]
    )


class _Losses:
    """The loss of the same validation targets, again and again."""

    def __init__(self, evaluator: Evaluator, batches: list[Any]) -> None:
        self._evaluator, self._batches = evaluator, batches
        scored = [evaluator.score_batch(batch) for batch in batches]
        self._user = np.unique(np.concatenate([one.user for one in scored]), return_inverse=True)[1]
        self._trained = self._of_targets()

    @classmethod
    def sample(cls, evaluator: Evaluator, manifest: Manifest, config: TrainingConfig, limit: int) -> "_Losses | None":
        """Of about `limit` evenly spaced validation records; None if there is none."""
        total = sum(shard.records for shard in manifest.splits.get("valid", ()))
        if not total:
            return None
        limit = min(max(limit, FEWEST_RECORDS), MOST_RECORDS, config.validation_records)
        window, every = manifest.schema.history.max_length, max(1, -(-total // limit))
        return cls(evaluator, list(make_dataset(manifest, "valid", window, config.batch_records, every=every)))

    def rise(self) -> tuple[float, float]:
        """How much higher the mean loss of a target is now than when the trained tables were there; standard error."""
        rise = self._of_targets() - self._trained
        mean = float(rise.mean())
        by_user = np.bincount(self._user, rise - mean)
        users = len(by_user)
        return mean, float(np.sqrt(users / max(users - 1, 1) * np.square(by_user).sum()) / len(rise))

    def _of_targets(self) -> npt.NDArray[np.float64]:
        parts = []
        for batch in self._batches:
            scored = self._evaluator.score_batch(batch)
            hit = np.where(scored.label > 0, scored.probability, 1 - scored.probability).astype(np.float64)
            parts.append(-np.log(np.maximum(hit, PROBABILITY_FLOOR)))
        return np.concatenate(parts)
