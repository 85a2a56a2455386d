"""Evaluation: every target of a split, scored once, exact metrics over all of them and over slices of them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from twin_tf.core.keras_api import graph, tf
from twin_tf.core.progress import progress_bar
from twin_tf.evaluation.metrics import Metrics, MetricsAccumulator
from twin_tf.models.twin import TwinModel
from twin_tf.records.batch import Batch
from twin_tf.records.corrupt_records import corrupt_records_named
from twin_tf.records.format import Manifest, SplitName
from twin_tf.records.input_pipeline import batch_spec, make_dataset
from twin_tf.records.seen_items import load_seen_items
from twin_tf.runs.compatibility import check_same_encoding, use_catalogue
from twin_tf.runs.run import load_run

LENGTH_EDGES = (0, 50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 102400)
COLUMNS = ("targets", "users", "auc", "gauc", "logloss", "calibration")


class Scored(NamedTuple):
    """Some targets of a split, `(n,)` each.

    Attributes:
        user: int64 raw user ids.
        item: int32 item rows.
        label: float32.
        probability: float32.
        history_end: int64, behaviours that the target sees before the window cuts them, clusters with their sizes.
    """

    user: npt.NDArray[np.int64]
    item: npt.NDArray[np.int32]
    label: npt.NDArray[np.float32]
    probability: npt.NDArray[np.float32]
    history_end: npt.NDArray[np.int64]


class Evaluation:
    """Metrics of a split and of its slices, from targets that come batch by batch and are not kept.

    Each combination of slices has an accumulator; a whole is the merger of its parts.

    Args:
        seen: bool by item row, which items the model was trained on; later rows are new. None if nobody knows.
    """

    def __init__(self, seen: npt.NDArray[np.bool_] | None = None) -> None:
        self._seen = seen
        self._cells: dict[tuple[int, bool], MetricsAccumulator] = {}

    def update(self, scored: Scored) -> None:
        """Adds targets."""
        length = np.searchsorted(LENGTH_EDGES, scored.history_end, side="right") - 1
        cell = 2 * length + self._known(scored.item)
        for code in np.unique(cell).tolist():
            inside = cell == code
            accumulator = self._cells.setdefault((code // 2, bool(code % 2)), MetricsAccumulator())
            accumulator.update(scored.label[inside], scored.probability[inside], scored.user[inside])

    def _known(self, item: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
        if self._seen is None:
            return np.zeros(len(item), bool)
        inside = item < len(self._seen)
        return inside & self._seen[np.where(inside, item, 0)]

    @property
    def metrics(self) -> Metrics:
        """Over all targets; computed anew at every call."""
        return MetricsAccumulator.merged(self._cells.values()).result()

    def by_history_length(self) -> list[dict[str, Any]]:
        """Metrics in classes of history length; classes without both labels are left out."""
        rows = []
        for number, (low, high) in enumerate(zip(LENGTH_EDGES, (*LENGTH_EDGES[1:], None), strict=True)):
            parts = [part for (length, _), part in self._cells.items() if length == number]
            metrics = MetricsAccumulator.merged(parts).result() if parts else None
            if metrics is not None and 0 < metrics.clicks < metrics.targets:
                rows.append({"from": low, "to": high, **metrics.to_plain()})
        return rows

    def by_item(self) -> list[dict[str, Any]] | None:
        """Metrics of the targets with items that the model was trained on, and with new ones; None if nobody knows."""
        if self._seen is None:
            return None
        rows = []
        for name, wanted in (("known", True), ("new", False)):
            parts = [part for (_, known), part in self._cells.items() if known == wanted]
            if parts:
                rows.append({"items": name, **MetricsAccumulator.merged(parts).result().to_plain()})
        return rows


class Evaluator:
    """Scores splits with a model's live weights; one trace serves every split and width.

    Args:
        model: its weights are read when a method is called.
    """

    def __init__(self, model: TwinModel) -> None:
        self._predict = graph(lambda batch: tf.sigmoid(model(batch)), batch_spec(model.schema))

    def run(
        self,
        manifest: Manifest,
        split: SplitName,
        batch_records: int,
        limit: int | None = None,
        seen: npt.NDArray[np.bool_] | None = None,
    ) -> Evaluation:
        """Scores the targets of a split.

        Args:
            manifest: prepared data.
            split: which targets.
            batch_records: records in a batch.
            limit: an evenly spaced sample of about this many records; None scores all of them.
            seen: which items the model was trained on, see `Evaluation`.

        Raises:
            ConfigError: the split is empty.
        """
        evaluation = Evaluation(seen)
        for scored in self.scores(manifest, split, batch_records, limit):
            evaluation.update(scored)
        return evaluation

    def scores(
        self, manifest: Manifest, split: SplitName, batch_records: int, limit: int | None = None
    ) -> Iterator[Scored]:
        """The targets of a split with their scores, batch by batch; arguments and errors as those of `run`."""
        total = sum(shard.records for shard in manifest.splits.get(split, ()))
        every = 1 if limit is None else max(1, -(-total // limit))
        dataset = make_dataset(manifest, split, manifest.schema.history.max_length, batch_records, every=every)
        with progress_bar(f"evaluate {split}", -(-total // every)) as advance:
            for batch in dataset:
                yield self.score_batch(batch)
                advance(int(batch.user_id.shape[0]), "")

    def score_batch(self, batch: Batch) -> Scored:
        """The real targets of a batch with their scores."""
        count = batch.targets.count.numpy()
        real = np.arange(batch.label.shape[1])[None, :] < count[:, None]
        seen = batch.history.behaviours_before(tf.minimum(batch.targets.end, batch.history.length[:, None]))
        columns = (batch.targets.item, batch.label, self._predict(batch), seen)
        return Scored(np.repeat(batch.user_id.numpy(), count), *(column.numpy()[real] for column in columns))


def evaluate_run(
    run: str | Path, prepared: str | Path, split: SplitName = "test", *, verify: bool = True
) -> dict[str, Any]:
    """Evaluates a trained run on prepared data and writes `evaluation-<split>.json` into the run.

    The data may be those of a later day, see `twin_tf.runs.compatibility`. Their catalogue is used: a new item is
    scored by what the run knows of it, for example its author, though its own id is unknown.

    Returns:
        The file's content: `metrics`, `by_history_length`, and `by_item`, null where the run does not say which items
        it was trained on.

    Raises:
        ConfigError: not a finished run, data that do not go with it, or an empty split.
    """
    loaded, manifest = load_run(run, verify=verify), Manifest.load(prepared, verify=verify)
    check_same_encoding(loaded.directory, manifest)
    use_catalogue(loaded.model, manifest)
    seen = load_seen_items(loaded.directory)
    with corrupt_records_named(manifest):
        evaluation = Evaluator(loaded.model).run(manifest, split, loaded.config.training.batch_records, seen=seen)
    result = {
        "split": split,
        "metrics": evaluation.metrics.to_plain(),
        "by_history_length": evaluation.by_history_length(),
        "by_item": evaluation.by_item(),
    }
    (Path(run) / f"evaluation-{split}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def evaluation_text(result: Mapping[str, Any]) -> str:
    """What `evaluate` returns as a table for people: the whole split, then its slices."""
    lengths = result["by_history_length"]
    spans = [f"{row['from']:,}+" if row["to"] is None else f"{row['from']:,} to {row['to'] - 1:,}" for row in lengths]
    rows = [(result["split"], result["metrics"])]
    rows += [(f"history {span}", row) for span, row in zip(spans, lengths, strict=True)]
    rows += [(f"{row['items']} items", row) for row in result["by_item"] or ()]
    cells = [("", *COLUMNS), *((name, *(_shown(row[column]) for column in COLUMNS)) for name, row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = []
    for name, *figures in cells:
        padded = [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *padded]))
    whole = result["metrics"]
    lines.append(
        f"gauc weighs a user by impressions; by clicks it is {_shown(whole['gauc_by_clicks'])}, with all users alike "
        f"{_shown(whole['gauc_uniform'])}; {whole['users_of_one_class']:,} users without both labels are left out"
    )
    if result["by_item"] is None:
        lines.append("no slices by known and new items: the run does not say which items it was trained on")
    return "\n".join(lines)


def _shown(value: float | int | None) -> str:
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
