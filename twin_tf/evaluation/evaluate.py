"""Evaluation: every target of a split, scored once, exact metrics over all of them and over slices of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twin_tf.core.files import write_whole
from twin_tf.core.keras_api import graph, tf
from twin_tf.core.mirrors import working_copy
from twin_tf.core.progress import progress_bar
from twin_tf.evaluation.judged import Judged
from twin_tf.evaluation.retrieved import retrieved_behaviours
from twin_tf.evaluation.slice_values import check_slices, value_name
from twin_tf.evaluation.sliced_evaluation import HISTORY, ITEM, Evaluation, Scored
from twin_tf.evaluation.slices import as_csv, reliability, slices_csv, worst_slices
from twin_tf.evaluation.user_figures import UserFigures
from twin_tf.evaluation.verdicts import against_sentence, not_beaten
from twin_tf.evaluation.yardsticks import compute_yardsticks, default_category
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.feature import Feature
from twin_tf.layers.embeddings import clock_index
from twin_tf.models.twin import TwinModel
from twin_tf.records.batch import Batch
from twin_tf.records.corrupt_records import corrupt_records_named
from twin_tf.records.format import Manifest, SplitName
from twin_tf.records.input_pipeline import batch_spec, make_dataset
from twin_tf.records.record_reader import read_users
from twin_tf.records.request_batch import as_served
from twin_tf.records.seen_items import load_seen_items
from twin_tf.runs.compatibility import check_same_encoding, use_catalogue
from twin_tf.runs.run import Run, load_run


class Evaluator:
    """Scores splits with a model's live weights, as a server would; one trace serves every split and width.

    Args:
        model: its weights are read when a method is called.
        slices: context, candidate and user features whose indices go with the scores.
    """

    def __init__(self, model: TwinModel, slices: Sequence[str] = ()) -> None:
        self._schema = model.schema
        self._slices = [model.schema.feature(name) for name in slices]
        self._predict = graph(lambda batch: tf.sigmoid(model(as_served(batch, model.schema))), batch_spec(model.schema))

    def run(
        self,
        manifest: Manifest,
        split: SplitName,
        batch_records: int,
        limit: int | None = None,
        seen: npt.NDArray[np.bool_] | None = None,
        users: npt.NDArray[np.int64] | None = None,
    ) -> Evaluation:
        """Scores the targets of a split.

        Args:
            manifest: prepared data.
            split: which targets.
            batch_records: records in a batch.
            limit: an evenly spaced sample of about this many records; None scores all of them.
            seen: which items the model was trained on, see `Evaluation`.
            users: which users the training part has, likewise.

        Raises:
            ConfigError: the split is empty.
        """
        evaluation = Evaluation(seen, users)
        for scored in self.scores(manifest, split, batch_records, limit):
            evaluation.update(scored)
        return evaluation

    def scores(
        self, manifest: Manifest, split: SplitName, batch_records: int, limit: int | None = None
    ) -> Iterator[Scored]:
        """The targets of a split with their scores, batch by batch; arguments and errors as those of `run`."""
        total = sum(shard.records for shard in manifest.splits.get(split, ()))
        every = 1 if limit is None else max(1, -(-total // limit))
        window, named = manifest.schema.history.max_length, manifest.schema.events.request is not None
        dataset = make_dataset(manifest, split, window, batch_records, every=every, requests=named)
        with progress_bar(f"evaluate {split}", -(-total // every)) as advance:
            for batch, request in dataset if named else ((batch, None) for batch in dataset):
                yield self.score_batch(batch, request)
                advance(int(batch.user_id.shape[0]), "")

    def score_batch(self, batch: Batch, request: tf.Tensor | None = None) -> Scored:
        """The real targets of a batch with their scores, and with ids of requests, int64 `(B, C)`, if given."""
        count = batch.targets.count.numpy()
        real = np.arange(batch.label.shape[1])[None, :] < count[:, None]
        seen = batch.history.behaviours_before(tf.minimum(batch.targets.end, batch.history.length[:, None]))
        columns = (batch.targets.item, batch.label, self._predict(batch), seen, batch.targets.time)
        item, label, probability, history_end, time = (column.numpy()[real] for column in columns)
        context = [self._index(batch, feature).numpy()[real] for feature in self._slices]
        indices = np.stack(context, axis=1) if context else np.zeros((len(item), 0), np.int32)
        user = np.repeat(batch.user_id.numpy(), count)
        scored = Scored(user, item, label, probability, history_end, time, indices)
        return scored if request is None else scored._replace(request=request.numpy()[real])

    def _index(self, batch: Batch, feature: Feature) -> tf.Tensor:
        """The index of a context, candidate or user feature as it was logged, `(B, C)`."""
        if feature.role == "user":
            return tf.broadcast_to(batch.user[feature.name][:, None], tf.shape(batch.targets.item))
        if feature.derived is None:
            return batch.targets.context[feature.name]
        return clock_index(feature, batch.targets.time, self._schema.events.time)


def evaluate_run(
    run: str | Path,
    prepared: str | Path,
    split: SplitName = "test",
    *,
    verify: bool = True,
    against: str | Path | None = None,
    slices: Sequence[str] = (),
    histories: Sequence[int] = (),
    yardsticks: bool = True,
    users: int = 3,
) -> dict[str, Any]:
    """Evaluates a trained run on prepared data and writes `evaluation-<split>.json` and its CSV tables into the run.

    The data may be those of a later day, see `twin_tf.runs.compatibility`. Their catalogue is used: a new item is
    scored by what the run knows of it, for example its author, though its own id is unknown.

    Args:
        run: a finished run, local or in a bucket, as the data may be.
        prepared: the data.
        split: whose targets are scored.
        verify: compare the files of run and data that hold no records with their SHA-256.
        against: another finished run to compare with on the same targets.
        slices: context, candidate and user features to slice by, beside history length, item, user and day.
        histories: what to cut the history of every target to, one pass of scoring each, to see what more is worth.
        yardsticks: compute what needs no network too, from the data's training part and strictly earlier events.
        users: of how many users `retrieved` holds what the search retrieves.

    Returns:
        The file's content: `weights_version`, `metrics`, `intervals`, `requests`, `by_history_length`, `slices`,
        `worst_slices`, `reliability`, `by_item` (null where the run does not say which items it was trained on), and
        what was asked for: `yardsticks` and `not_beaten`, `against`, `history_worth`, `retrieved`. Intervals are 95 %
        by bootstrap over users.

    Raises:
        ConfigError: not a finished run, data that do not go with it, an empty split, or no such feature.
    """
    with working_copy(run, lambda name: not name.startswith("tensorboard/")) as directory:
        loaded, manifest = load_run(directory, verify=verify), Manifest.load(prepared, verify=verify)
        check_slices(manifest.schema, slices)
        scored = partial(_scored, manifest=manifest, split=split, batch_records=loaded.config.training.batch_records)
        with corrupt_records_named(manifest):
            evaluation = scored(loaded, slices=slices, users=read_users(manifest, "train"))
            judged = Judged.of(evaluation.predictions, evaluation.time, evaluation.request)
        encoder = FeatureEncoder.load(manifest.directory)
        sliced = evaluation.slices(
            manifest.schema.events.time, {name: partial(value_name, encoder, name) for name in slices}
        )
        assert judged.requests is not None
        result: dict[str, Any] = {
            "split": split,
            "weights_version": loaded.info.weights_version,
            "metrics": evaluation.metrics.to_plain(),
            "intervals": judged.draws.intervals(),
            "requests": judged.requests.to_plain(),
            "by_history_length": [_bare(row) for row in sliced[HISTORY] if 0 < row["clicks"] < row["targets"]],
            "by_item": [{"items": row["value"], **_bare(row)} for row in sliced[ITEM]] if ITEM in sliced else None,
            "slices": sliced,
            "worst_slices": worst_slices(sliced),
            "reliability": reliability(evaluation.predictions),
        }
        if yardsticks:
            result["yardsticks"] = _yardsticks(loaded, manifest, split, judged)
            result["not_beaten"] = not_beaten(result["metrics"], result["yardsticks"])
        if users:
            with corrupt_records_named(manifest):
                result["retrieved"] = retrieved_behaviours(loaded, manifest, split, users)
        with corrupt_records_named(manifest):
            if against is not None:
                earlier = load_run(against, verify=verify)
                other = scored(earlier)
                theirs = Judged.of(other.predictions, other.time, other.request)
                result["against"] = {
                    "run": str(against),
                    "weights_version": earlier.info.weights_version,
                    "metrics": other.metrics.to_plain(),
                    "less": judged.less(theirs),
                }
                result["against"]["sentence"] = against_sentence(str(against), result["against"]["less"])
            if histories:
                worth = []
                for length in histories:  # one model at a time is held beside the whole one
                    cut = scored(load_run(directory, verify=verify, history_length=length))
                    worth.append(_cut(length, Judged.of(cut.predictions), judged))
                result["history_worth"] = [*worth, _cut(None, judged, judged)]
        _write(directory, split, result)
        UserFigures.of(evaluation.predictions).save(directory, split)
        return result


def _scored(
    loaded: Run,
    manifest: Manifest,
    split: SplitName,
    batch_records: int,
    slices: Sequence[str] = (),
    users: npt.NDArray[np.int64] | None = None,
) -> Evaluation:
    """A run's evaluation; runs that are given the same `batch_records` have their targets in the same order."""
    check_same_encoding(loaded.directory, manifest)
    use_catalogue(loaded.model, manifest)
    seen = load_seen_items(loaded.directory)
    return Evaluator(loaded.model, slices).run(manifest, split, batch_records, seen=seen, users=users)


def _yardsticks(loaded: Run, manifest: Manifest, split: SplitName, judged: Judged) -> dict[str, Any]:
    """The yardsticks with intervals, and `behind`: the model's figures less theirs."""
    category = default_category(manifest.schema, loaded.config.model.searches.sim_hard.category)
    found = {}
    for key, yardstick in compute_yardsticks(manifest, split, [category]).items():
        theirs, plain = Judged.of(yardstick.predictions, yardstick.time, yardstick.request), yardstick.to_plain()
        kept = {"auc", "gauc", "request_auc", "request_ndcg", *(("logloss",) if yardstick.probabilities else ())}
        intervals = {name: ends for name, ends in theirs.draws.intervals().items() if name in kept}
        behind = {name: gap for name, gap in judged.less(theirs).items() if name in kept}
        assert theirs.requests is not None
        plain["requests"] = theirs.requests.to_plain()
        found[key] = {**plain, "intervals": intervals, "behind": behind}
    return found


def _cut(length: int | None, cut: Judged, whole: Judged) -> dict[str, Any]:
    """Figures with histories cut to a length (None: whole), and `less`: those less the figures of whole histories."""
    figures = {metric: cut.figures[metric] for metric in ("auc", "gauc", "logloss")}
    return {"history": length, **figures, "intervals": cut.draws.intervals(), "less": cut.less(whole)}


def _bare(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a slice without what only `slices` has."""
    return {key: value for key, value in row.items() if key not in ("value", "intervals")}


def _write(run: Path, split: SplitName, result: Mapping[str, Any]) -> None:
    """`evaluation-<split>.json`, and as CSV its slices and its reliability."""
    stem = f"evaluation-{split}"
    (run / f"{stem}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_whole(run / f"{stem}-slices.csv", slices_csv(result["slices"]))
    rows = result["reliability"]
    write_whole(run / f"{stem}-reliability.csv", as_csv(list(rows[0]), [list(row.values()) for row in rows]))
