"""The probability of every target of a split, as a Parquet file: what an evaluation computes, target by target."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.files import JsonDict, whole_file
from twin_tf.core.mirrors import local_path
from twin_tf.core.parquet_rows import RowsWriter
from twin_tf.evaluation.evaluate import Evaluator
from twin_tf.evaluation.sliced_evaluation import Scored
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.raw_ids import id_feature, id_texts
from twin_tf.records.corrupt_records import corrupt_records_named
from twin_tf.records.format import Manifest, SplitName
from twin_tf.records.input_pipeline import load_item_features
from twin_tf.runs.compatibility import check_same_encoding, use_catalogue
from twin_tf.runs.run import load_run


def score_split(
    run: str | Path, prepared: str | Path, output: str | Path, split: SplitName = "test", *, verify: bool = True
) -> JsonDict:
    """Writes the probability of every target of a split; the file is there when all of them are.

    A row is a target, in the order of the records: `user`, `item` and `time` as in the logs, `label`, `probability`,
    and `request` where the data have ids of requests (0: none). Where ids are text, `user` and `item` hold it, null
    where no vocabulary keeps it, and `user_hash` and `item_hash` the int64 that records know them by.

    Args:
        run: a finished run.
        prepared: prepared data of the run's day or a later one, see `twin_tf.runs.compatibility`.
        output: the file, `.parquet`; one that is there is replaced.
        split: whose targets.
        verify: compare the files of run and data that hold no records with their SHA-256.

    Returns:
        `output`, `split`, and `targets`, how many there are.

    Raises:
        ConfigError: not a finished run, data that do not go with it, an empty split, or another kind of file.
    """
    path = parquet_path(output)
    loaded, manifest = load_run(run, verify=verify), Manifest.load(prepared, verify=verify)
    check_same_encoding(loaded.directory, manifest)
    use_catalogue(loaded.model, manifest)
    ids = _Ids(manifest)
    evaluator = Evaluator(loaded.model, ids.user_slices)
    with corrupt_records_named(manifest), whole_file(path) as temporary, RowsWriter(temporary) as rows:
        for scored in evaluator.scores(manifest, split, loaded.config.training.batch_records):
            columns = ids.columns(scored)
            columns |= {"time": scored.time, "label": scored.label.astype(np.int8), "probability": scored.probability}
            if len(scored.request):
                columns["request"] = scored.request
            rows.add(columns)
    return {"output": str(path), "split": split, "targets": rows.count}


def parquet_path(output: str | Path) -> Path:
    """The path of a Parquet file to write.

    Raises:
        ConfigError: its name says another kind of file.
    """
    path = local_path(output, "scores")
    if path.suffix != ".parquet":
        raise ConfigError(f"--output {output} must be called *.parquet: the scores are written as Parquet")
    return path


class _Ids:
    """Users and items of scored targets as columns."""

    def __init__(self, manifest: Manifest) -> None:
        self._encoder = FeatureEncoder.load(manifest.directory)
        schema = self._encoder.schema
        self._features, self._items = load_item_features(manifest.directory, schema)
        self._events = schema.events
        self._item, self._user = id_feature(schema, "inherent"), id_feature(schema, "user")
        self._item_column = 0 if self._item is None else schema.inherent_slices[self._item.name].start

    @property
    def user_slices(self) -> list[str]:
        """The feature that says who a user is, whose index the scores then come with."""
        return [] if self._user is None else [self._user.name]

    def columns(self, scored: Scored) -> dict[str, Any]:
        """`user` and `item`, as text with their hashes where they are text."""
        item = self._items[scored.item]
        found: dict[str, Any] = {}
        for name, ids, text, feature, indices in (
            ("user", scored.user, self._events.user.type, self._user, scored.context[:, :1]),
            ("item", item, self._events.item.type, self._item, self._features[scored.item, self._item_column]),
        ):
            if text == "int":
                found[name] = ids
                continue
            known: list[str | None] = [None] * len(ids)
            if feature is not None:
                known = id_texts(self._encoder, feature, indices.ravel().tolist(), ids.tolist())
            found |= {name: pa.array(known, pa.string()), f"{name}_hash": ids}
        return found
