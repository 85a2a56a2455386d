"""Steps of `build_examples` that fit vocabularies and boundaries.

Figures are merged by part: of a vocabulary by a hash of the value. A part sorts what it keeps into a piece; one worker
merges the pieces, as streams, into the vocabulary. It is written for people and programs, and as a file that workers
map (`fit_files`).
"""

import dataclasses
import json
import pickle
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines.examples.fit_files import mapped_table, merged, write_blocks
from beam_pipelines.examples.previous_snapshot import PreviousRun
from beam_pipelines.examples.value_counts import Histogram, ValueCounts, part_of, quantiles
from beam_pipelines.io.record_writer import copy_file, write_pieces
from twin_tf.features.arrow_vocabulary import rows_in, texts
from twin_tf.features.contract import json_pieces
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.schema import FIRST_KNOWN, Feature, FeatureSchema
from twin_tf.records.format import PENDING

Part = TypeVar("Part")
Key = tuple[str, int]
"""A name and a part, from 0."""

_TEXT = pa.schema([("value", pa.string())])


class Merge(beam.CombineFn, Generic[Part]):
    """Parts that have a classmethod `merge` -> one; they are gathered and merged now and then, not one by one."""

    _GATHERED = 16

    def create_accumulator(self) -> list[Part]:
        """Nothing."""
        return []

    def add_input(self, parts: list[Part], part: Part) -> list[Part]:
        """Adds a part."""
        parts.append(part)
        return [merge(parts)] if len(parts) >= self._GATHERED else parts

    def merge_accumulators(self, many: Iterable[list[Part]]) -> list[Part]:
        """Adds many."""
        parts = [part for parts in many for part in parts]
        return [merge(parts)] if parts else []

    def extract_output(self, parts: list[Part]) -> Part | None:
        """The whole; None of nothing."""
        return merge(parts) if parts else None


def merge(parts: Sequence[Any]) -> Any:
    """Merges parts of one kind."""
    return type(parts[0]).merge(parts)


def event_vocabularies(schema: FeatureSchema) -> tuple[Feature, ...]:
    """Features whose vocabulary is counted on events; what it lacks waits for the next run. Users are counted anew."""
    return tuple(
        feature
        for feature in schema.features
        if feature.encoding_or_fail.kind == "vocabulary" and feature.role not in ("inherent", "user")
    )


class ReadKnown(beam.DoFn):
    """A feature -> what the previous run knows of its values: (key, texts of its vocabulary, or `ValueCounts`)."""

    def __init__(self, previous: PreviousRun, parts: int) -> None:
        self._previous = previous
        self._parts = parts

    def process(self, name: str) -> Iterator[tuple[Key, pa.Array | ValueCounts]]:
        """Yields the values of each part."""
        for block in self._previous.vocabulary(name):
            part = part_of(block, self._parts)
            for number in np.unique(part).tolist():
                yield (name, number), block.filter(pa.array(part == number))
        rare = self._previous.rare_values.get(name)
        if rare is not None:
            for number, counts in rare.cut(self._parts):
                yield (name, number), counts


@dataclasses.dataclass(frozen=True)
class FittedPart:
    """What a part of a feature's figures has become.

    Attributes:
        feature: its name.
        boundaries: of a numeric feature.
        fresh: the piece of values that enter the vocabulary: `value`; empty if there are none.
        rare: the piece of values that it lacks: `value`, `total`; likewise.
        type: of the values as the logs have them, an Arrow type.
    """

    feature: str
    boundaries: tuple[float, ...] = ()
    fresh: str = ""
    rare: str = ""
    type: pa.DataType = dataclasses.field(default_factory=pa.string)


class FitPart(beam.DoFn):
    """The figures of one part of a feature -> `FittedPart`; writes its pieces."""

    def __init__(self, schema: FeatureSchema, root: str) -> None:
        self._schema = schema
        self._root = root

    def process(self, group: tuple[Key, Iterable[Any]]) -> Iterator[FittedPart]:
        """Yields one; nothing of a part that has no figures of its own."""
        (name, part), elements = group
        found: dict[type, list[Any]] = {}
        for element in elements:
            found.setdefault(pa.Array if isinstance(element, pa.Array) else type(element), []).append(element)
        encoding = self._schema.feature(name).encoding_or_fail
        if Histogram in found:
            boundaries = quantiles(Histogram.merge(found[Histogram]), int(encoding.quantiles or 0))
            yield FittedPart(name, tuple(boundaries))
        elif ValueCounts in found:
            counts = ValueCounts.merge(found[ValueCounts]).sorted()
            known = pa.chunked_array(found.get(pa.Array, []), pa.string())
            new = ~pc.is_in(texts(counts.values), value_set=known.combine_chunks()).to_numpy(zero_copy_only=False)
            enough = counts.counts >= max(1, encoding.min_count)
            waits = any(feature.name == name for feature in event_vocabularies(self._schema))
            yield FittedPart(
                name,
                fresh=self._piece(f"fresh/{name}-{part}", counts.rows(np.flatnonzero(new & enough))),
                rare=self._piece(f"rare/{name}-{part}", counts.rows(np.flatnonzero(new & ~enough))) if waits else "",
                type=counts.values.type,
            )

    def _piece(self, name: str, counts: ValueCounts) -> str:
        if not len(counts.values):
            return ""
        table = pa.table({"value": counts.values, "total": counts.totals})
        write_blocks(self._root, name, table.schema, [table])
        return name


@dataclasses.dataclass(frozen=True)
class Vocabularies:
    """What was fitted, small enough to travel with every bundle.

    Attributes:
        root: where its files lie.
        run: distinct for each run, see `fit_files.local_copy`.
        mapped: features whose vocabulary lies in a mapped file.
        boundaries: numeric feature -> what was found.
        rare: vocabulary cross feature -> how many values its vocabulary lacks; they lie in a mapped file, in order.
        remapped: vocabulary cross feature -> the previous run's index -> the index now, pending ones after the known.
        cardinalities: feature -> rows of its table.
        files: what was written -> sha256.
    """

    root: str
    run: str
    mapped: tuple[str, ...]
    boundaries: Mapping[str, Sequence[float]]
    rare: Mapping[str, int]
    remapped: Mapping[str, npt.NDArray[np.int32]]
    cardinalities: Mapping[str, int]
    files: Mapping[str, str]

    def encoder(self, schema: FeatureSchema) -> FeatureEncoder:
        """Looks values up in the mapped files."""
        texts_of = {name: mapped_table(self.root, f"vocabulary/{name}", self.run)["value"] for name in self.mapped}
        return FeatureEncoder(schema, {**texts_of, **self.boundaries})

    def with_rare(self, name: str) -> pa.ChunkedArray:
        """The vocabulary of an event feature, then, of a cross feature, the values that it lacks."""
        tables = [mapped_table(self.root, f"vocabulary/{name}", self.run)]
        if self.rare.get(name):
            tables.append(mapped_table(self.root, f"waiting/{name}", self.run))
        return pa.concat_tables(tables)["value"]


class FitVocabularies(beam.DoFn):
    """All parts -> `Vocabularies`; writes `schema.yaml`, `contract.json`, `vocabularies/` and `state/pending.json`."""

    def __init__(self, schema: FeatureSchema, root: str, previous: PreviousRun | None) -> None:
        self._schema = schema
        self._root = root
        self._previous = previous

    def process(self, _: None, parts: list[FittedPart]) -> Iterator[bytes]:
        """Yields one pickled `Vocabularies`."""
        schema, previous, root = self._schema, self._previous, self._root
        fitted = [feature for feature in schema.features if feature.encoding_or_fail.fitted]
        mapped = tuple(feature.name for feature in fitted if feature.encoding_or_fail.kind == "vocabulary")
        boundaries: dict[str, Sequence[float]] = {}
        for feature in fitted:
            if feature.name in mapped:
                write_blocks(root, f"vocabulary/{feature.name}", _TEXT, self._values(feature.name, parts), mapped=True)
            elif previous:
                boundaries[feature.name] = previous.boundaries(feature.name)
            else:
                boundaries[feature.name] = next((list(p.boundaries) for p in parts if p.feature == feature.name), [])
        rare = {feature.name: self._rare(feature.name, parts) for feature in event_vocabularies(schema)}
        cross = {feature.name for feature in schema.stored_cross} & set(rare)
        for name in sorted(cross):
            if len(rare[name]):
                waiting = pa.table([pa.chunked_array([texts(c) for c in rare[name]["value"].chunks])], _TEXT)
                write_blocks(root, f"waiting/{name}", _TEXT, [waiting], mapped=True)
        files = {PENDING: write_pieces(root, PENDING, _rare_json(rare))}
        run, sizes = f"run-{uuid.uuid4().hex}", {name: len(rare[name]) for name in sorted(cross)}
        found = Vocabularies(root, run, mapped, boundaries, sizes, {}, {}, files)
        encoder = found.encoder(schema)
        encoder.earlier = previous.contracts() if previous else ()
        files.update(_write_encoder(encoder, root))
        cardinalities = {feature.name: encoder.cardinality(feature) for feature in schema.features}
        remapped = {name: _remapped(found, previous, name) for name in sorted(cross)} if previous else {}
        found = dataclasses.replace(found, cardinalities=cardinalities, remapped=remapped)
        yield pickle.dumps(found, protocol=5)

    def _values(self, name: str, parts: Sequence[FittedPart]) -> Iterator[pa.Table]:
        """The vocabulary: the previous run's keeps its rows, what is new follows in its order."""
        if self._previous:
            for block in self._previous.vocabulary(name):
                yield pa.table([block], _TEXT)
        for table in merged(self._root, [p.fresh for p in parts if p.feature == name and p.fresh], "value"):
            yield pa.table([texts(table["value"].combine_chunks())], _TEXT)

    def _rare(self, name: str, parts: Sequence[FittedPart]) -> pa.Table:
        mine = [part for part in parts if part.feature == name]
        before = self._previous.rare_values.get(name) if self._previous else None
        type_ = mine[0].type if mine else before.values.type if before else pa.string()
        nothing = pa.schema([("value", type_), ("total", pa.int64())]).empty_table()
        return pa.concat_tables([nothing, *merged(self._root, [p.rare for p in mine if p.rare], "value")])


def _remapped(found: Vocabularies, previous: PreviousRun, name: str) -> npt.NDArray[np.int32]:
    """What the indices of the previous histories have become: those of its vocabulary stay."""
    known = sum(len(block) for block in previous.vocabulary(name))
    then = texts(previous.rare_values[name].values)
    now = rows_in(found.with_rare(name), then) if len(then) else np.zeros(0, np.int32)
    return np.concatenate([np.arange(FIRST_KNOWN + known, dtype=np.int32), now])


def _rare_json(rare: Mapping[str, pa.Table]) -> Iterator[str]:
    yield "{"
    for number, (name, table) in enumerate(rare.items()):
        yield f"{', ' if number else ''}{json.dumps(name, ensure_ascii=False)}: "
        yield f'{{"type": "{table["value"].type}", "values": '
        yield from json_pieces(table["value"], ensure_ascii=False)
        yield ', "counts": '
        yield from json_pieces(table["total"])
        yield "}"
    yield "}"


def _write_encoder(encoder: FeatureEncoder, root: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as directory:
        encoder.save(directory)
        paths = sorted(path for path in Path(directory).rglob("*") if path.is_file())
        names = [path.relative_to(directory).as_posix() for path in paths]
        return {name: copy_file(path, root, name) for name, path in zip(names, paths, strict=True)}
