"""Evaluation: every target of a split, scored once, exact metrics over all of them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twin_tf.data import batch_spec, make_dataset
from twin_tf.keras_api import tf
from twin_tf.metrics import Metrics, compute_metrics
from twin_tf.model import TwinModel
from twin_tf.progress import progress_bar
from twin_tf.records import Manifest, SplitName
from twin_tf.runs import check_same_encoding, load_run

LENGTH_EDGES = (0, 50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 102400)


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Every target of a split, `(n,)` each.

    Attributes:
        user: int64 raw user ids.
        item: int32 item rows.
        label: float32.
        probability: float32.
        history_end: int32, behaviours in sight of the target before the window cuts them.
        metrics: over all of them.
    """

    user: npt.NDArray[np.int64]
    item: npt.NDArray[np.int32]
    label: npt.NDArray[np.float32]
    probability: npt.NDArray[np.float32]
    history_end: npt.NDArray[np.int32]
    metrics: Metrics

    def by_history_length(self) -> list[dict[str, Any]]:
        """AUC and GAUC of the targets in classes of history length; classes without both labels are left out."""
        rows = []
        for low, high in zip(LENGTH_EDGES, (*LENGTH_EDGES[1:], None), strict=True):
            inside = self.history_end >= low
            if high is not None:
                inside &= self.history_end < high
            if len(np.unique(self.label[inside])) == 2:
                metrics = compute_metrics(self.label[inside], self.probability[inside], self.user[inside])
                rows.append({"from": low, "to": high, **metrics.to_plain()})
        return rows


class Evaluator:
    """Scores splits with a model's live weights; one trace serves every split and width.

    Args:
        model: its weights are read when `run` is called.
    """

    def __init__(self, model: TwinModel) -> None:
        self._predict = tf.function(lambda batch: tf.sigmoid(model(batch)), input_signature=[batch_spec(model.schema)])

    def run(self, manifest: Manifest, split: SplitName, batch_records: int, limit: int | None = None) -> Predictions:
        """Scores the targets of a split.

        Args:
            manifest: prepared data.
            split: which targets.
            batch_records: records in a batch.
            limit: an evenly spaced sample of about this many records; None scores all of them.

        Raises:
            ConfigError: the split is empty.
        """
        total = sum(shard.records for shard in manifest.splits.get(split, ()))
        every = 1 if limit is None else max(1, -(-total // limit))
        dataset = make_dataset(manifest, split, manifest.schema.history.max_length, batch_records, every=every)
        parts: list[tuple[npt.NDArray[Any], ...]] = []
        with progress_bar(f"evaluate {split}", -(-total // every)) as advance:
            for batch in dataset:
                count = batch.targets.count.numpy()
                real = np.arange(batch.label.shape[1])[None, :] < count[:, None]
                columns = (batch.targets.item, batch.label, self._predict(batch), batch.targets.end)
                parts.append((np.repeat(batch.user_id.numpy(), count), *(column.numpy()[real] for column in columns)))
                advance(len(count), "")
        user, item, label, probability, end = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Predictions(user, item, label, probability, end, compute_metrics(label, probability, user))


def evaluate(run: str | Path, prepared: str | Path, split: SplitName = "test") -> dict[str, Any]:
    """Evaluates a trained run on prepared data and writes `evaluation-<split>.json` into the run.

    Returns:
        The file's content: `metrics` and `by_history_length`.

    Raises:
        ConfigError: not a finished run, other data than it was trained on, or an empty split.
    """
    loaded, manifest = load_run(run), Manifest.load(prepared)
    check_same_encoding(loaded.directory, manifest)
    predictions = Evaluator(loaded.model).run(manifest, split, loaded.config.training.batch_records)
    result = {
        "split": split,
        "metrics": predictions.metrics.to_plain(),
        "by_history_length": predictions.by_history_length(),
    }
    (Path(run) / f"evaluation-{split}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result
