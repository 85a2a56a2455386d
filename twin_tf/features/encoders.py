"""Raw values to indices: one implementation for the pipelines and the clients, so the two cannot differ.

TensorFlow-free, and free of pyarrow unless it is handed pyarrow arrays. Every index obeys the schema's index space:
0 padding, 1 unknown (also for null and NaN), known values from 2.

Example:
    >>> encoder = FeatureEncoder.load("prepared")           # reads schema.yaml and vocabularies/
    >>> encoder.encode("brand", ["National", "no such brand"])
    array([2, 1], dtype=int32)
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.yaml_text import dump_yaml, parse_json
from twin_tf.features.contract import CONTRACT, Contract, check_recorded, contract_of, json_pieces
from twin_tf.features.schema import FIRST_KNOWN, UNKNOWN, Feature, FeatureSchema, IdColumn, load_schema

IntArray = npt.NDArray[np.int32]
IdArray = npt.NDArray[np.int64]

VOCABULARIES = "vocabularies"
"""The directory of vocabularies and boundaries, in prepared data, a run and an exported model."""


def hash_id(text: str) -> int:
    """A string id as a non-negative int64: the low 63 bits of BLAKE2b-64 of its UTF-8 bytes, little-endian."""
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "little") & 0x7FFF_FFFF_FFFF_FFFF


def encode_ids(column: IdColumn, values: Any) -> IdArray:
    """Raw ids to int64: integers as they are, strings through `hash_id`.

    Args:
        column: the id column; its type says which.
        values: a sequence, NumPy array or pyarrow array without nulls.

    Returns:
        int64 of the same length.
    """
    if column.type == "int":
        return np.asarray(values, dtype=np.int64)
    distinct, positions = _distinct(values)
    return np.array([hash_id(str(value)) for value in distinct], dtype=np.int64)[positions]


def served_index(feature: Feature, schema: FeatureSchema) -> int | None:
    """The index that every candidate has of a feature with `serve_as`; None of any other feature."""
    if feature.serve_as is None:
        return None
    encoder = FeatureEncoder(schema, {f.name: [] for f in schema.features if f.encoding_or_fail.fitted})
    return int(encoder.encode(feature.name, [feature.serve_as])[0])


class FeatureEncoder:
    """Encodes every stored feature of a schema.

    Args:
        schema: the feature schema.
        fitted: feature name -> vocabulary values in index order (list of text, or a pyarrow ChunkedArray of it, which
            then encodes pyarrow arrays alone) for vocabularies, or boundaries (list of floats) for numeric features
            with quantiles. Every feature whose encoding is `fitted` must be there.
        earlier: digests of the contracts that this one grew from.

    Raises:
        ConfigError: a fitted feature is missing.
    """

    def __init__(self, schema: FeatureSchema, fitted: Mapping[str, Sequence[Any]], earlier: Sequence[str] = ()) -> None:
        self.schema = schema
        self.earlier = tuple(earlier)
        self.fitted: dict[str, Any] = {
            name: values if hasattr(values, "chunks") else list(values) for name, values in fitted.items()
        }
        missing = [f.name for f in schema.features if f.encoding_or_fail.fitted and f.name not in self.fitted]
        if missing:
            raise ConfigError(f"no fitted vocabulary or boundaries for {', '.join(missing)}")
        self._indices: dict[str, dict[str, int]] = {}  # some 100 bytes a value: made of what is looked up alone

    @cached_property
    def contract(self) -> Contract:
        """What its indices mean, as it is compared and recorded."""
        return contract_of(self, self.earlier)

    def cardinality(self, feature: Feature) -> int:
        """Rows of the feature's embedding table, padding and unknown included."""
        encoding = feature.encoding_or_fail
        if not encoding.fitted:
            return encoding.cardinality()
        extra = 1 if encoding.kind == "numeric" else 0
        return FIRST_KNOWN + len(self.fitted[feature.name]) + extra

    def boundaries(self, feature: Feature) -> list[float]:
        """The rising boundaries of a numeric feature, given or found."""
        encoding = feature.encoding_or_fail
        return list(encoding.boundaries if encoding.boundaries is not None else self.fitted[feature.name])

    def encode(self, name: str, values: Any) -> IntArray:
        """Encodes raw values of the feature `name`.

        Args:
            name: a feature with a column (not a derived one).
            values: sequence, NumPy array or pyarrow array; None, null and NaN are unknown. Of a multi-valued feature a
                list of values for each item, or a text to split if the feature has a separator.

        Returns:
            int32 indices of the same length; of a multi-valued feature `(n, max_values)`, padded with 0.

        Raises:
            ConfigError: no such feature, or values that are no numbers where numbers are needed.
        """
        feature = self.schema.feature(name)
        if feature.multi_valued is None:
            return self._encode_each(feature, values)
        offsets, indices = self.encode_many(name, values)
        rows = np.zeros((len(offsets) - 1, feature.max_values), np.int32)
        owner, place = places_in_lists(offsets)
        kept = place < feature.max_values
        rows[owner[kept], place[kept]] = indices[kept]
        return rows

    def encode_many(self, name: str, values: Any) -> tuple[IdArray, IntArray]:
        """Encodes a multi-valued feature and cuts nothing.

        Args:
            name: a multi-valued feature.
            values: as for `encode`, of n items.

        Returns:
            int64 `(n + 1,)` offsets and int32 indices: those of item i are `indices[offsets[i]:offsets[i + 1]]`, each
            once, in the order of its values; `UNKNOWN` alone for an item without any.

        Raises:
            ConfigError: no such feature, or an item with neither a list nor a text to split.
        """
        feature = self.schema.feature(name)
        counts, flat = _flat(feature, values)
        valueless = np.flatnonzero(counts == 0)
        owner = np.concatenate([np.repeat(np.arange(len(counts)), counts), valueless])
        indices = np.concatenate([self._encode_each(feature, flat), np.full(len(valueless), UNKNOWN, np.int32)])
        _, first = np.unique(owner << 32 | indices, return_index=True)
        first = first[np.lexsort([first, owner[first]])]
        sizes = np.bincount(owner[first], minlength=len(counts))
        return np.concatenate([[0], np.cumsum(sizes)]), indices[first]

    def _encode_each(self, feature: Feature, values: Any) -> IntArray:
        name, encoding = feature.name, feature.encoding_or_fail
        if encoding.kind in ("numeric", "identity"):
            numbers = _numbers(name, values)
            known = np.isfinite(numbers)
            if encoding.kind == "numeric":
                rows = FIRST_KNOWN + np.searchsorted(np.asarray(self.boundaries(feature)), numbers, side="right")
            else:
                size = int(encoding.size or 0)
                known &= (numbers >= 0) & (numbers < size) & (numbers == np.floor(numbers))
                rows = FIRST_KNOWN + np.where(known, numbers, 0).astype(np.int64)
            return np.where(known, rows, UNKNOWN).astype(np.int32)
        if encoding.kind == "vocabulary" and hasattr(self.fitted[name], "chunks"):
            from twin_tf.features.arrow_vocabulary import rows_in

            return rows_in(self.fitted[name], values)
        distinct, positions = _distinct(values)
        if feature.value_type == "int":  # as the pipeline reads them: true is 1, and 5.0 is 5
            distinct = [_whole(value) for value in distinct]
        if encoding.kind == "vocabulary":
            if name not in self._indices:
                self._indices[name] = {value: row for row, value in enumerate(self.fitted[name], FIRST_KNOWN)}
            index = self._indices[name]
            known_rows = [UNKNOWN if _missing(v) else index.get(str(v), UNKNOWN) for v in distinct]
        else:
            buckets = int(encoding.buckets or 1)
            known_rows = [UNKNOWN if _missing(v) else FIRST_KNOWN + hash_id(str(v)) % buckets for v in distinct]
        return np.array(known_rows, dtype=np.int32)[positions]

    def save(self, directory: str | Path) -> None:
        """Writes `schema.yaml`, `vocabularies/<feature>.json` and `contract.json`."""
        root = Path(directory)
        (root / VOCABULARIES).mkdir(parents=True, exist_ok=True)
        (root / "schema.yaml").write_text(dump_yaml(self.schema.to_plain()), encoding="utf-8")
        for feature in self.schema.features:
            if feature.encoding_or_fail.fitted:
                with (root / vocabulary_file(feature)).open("w", encoding="utf-8") as file:
                    file.write(f'{{"kind": {json.dumps(feature.encoding_or_fail.kind)}, "values": ')
                    file.writelines(json_pieces(self.fitted[feature.name], ensure_ascii=False))
                    file.write("}")
        (root / CONTRACT).write_text(self.contract.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, directory: str | Path) -> "FeatureEncoder":
        """Reads what `save` wrote.

        Raises:
            ConfigError: the directory holds no schema, a fitted feature has no file or one that cannot be read, or a
                file was changed after it was made, see `twin_tf.features.contract`.
        """
        root = Path(directory)
        schema = load_schema(root / "schema.yaml")
        fitted: dict[str, list[Any]] = {}
        for feature in schema.features:
            path = root / vocabulary_file(feature)
            if feature.encoding_or_fail.fitted and path.exists():
                fitted[feature.name] = _values(path)
        encoder = cls(schema, fitted)
        encoder.earlier = check_recorded(root, encoder)
        return encoder


def _values(path: Path) -> list[Any]:
    content = parse_json(path.read_bytes(), str(path))
    if not isinstance(content, dict) or not isinstance(content.get("values"), list):
        raise ConfigError(f"{path} holds no list of values; copy it anew or preprocess again")
    values: list[Any] = content["values"]
    return values


def vocabulary_file(feature: Feature) -> str:
    """Where a directory holds the vocabulary or the boundaries of a fitted feature."""
    return f"{VOCABULARIES}/{feature.name}.json"


def places_in_lists(offsets: IdArray) -> tuple[IdArray, IdArray]:
    """For each value of lists that lie one behind the other: which list it is in, and its place there, from 0."""
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return owner, np.arange(len(owner)) - offsets[owner]


def owners(lists: Any) -> IdArray:
    """For each value of a pyarrow array of lists, flattened, the row that it belongs to."""
    return np.repeat(np.arange(len(lists)), lists.value_lengths().fill_null(0).to_numpy())


def _flat(feature: Feature, values: Any) -> tuple[IdArray, Any]:
    """How many values each item has, and all of them."""
    if hasattr(values, "combine_chunks"):
        values = values.combine_chunks()
    if hasattr(values, "value_lengths"):  # a pyarrow array of lists
        import pyarrow.compute as pc

        flat, owner = values.flatten(), owners(values)
        known = pc.not_equal(flat, "").fill_null(False) if str(flat.type).endswith("string") else flat.is_valid()
        return np.bincount(owner[known.to_numpy(zero_copy_only=False)], minlength=len(values)), flat.filter(known)
    lists = []
    for value in values.to_pylist() if hasattr(values, "to_pylist") else values:
        if isinstance(value, str) and feature.multi_valued is not None and feature.multi_valued.separator:
            lists.append(feature.multi_valued.split(value))
        elif hasattr(value, "__iter__") and not isinstance(value, str):
            lists.append([one for one in value if not _missing(one) and one != ""])
        elif _missing(value):
            lists.append([])
        else:
            raise ConfigError(f"feature {feature.name!r} needs a list of values for each item, not {value!r}")
    return np.array([len(found) for found in lists], np.int64), [one for found in lists for one in found]


def _missing(value: Any) -> bool:
    return value is None or value != value  # NaN differs from itself


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()) else value


def _distinct(values: Any) -> tuple[list[Any], npt.NDArray[np.int64]]:
    """Distinct values and, for each value, its position among them."""
    if hasattr(values, "dictionary_encode"):  # a pyarrow array or chunked array
        if hasattr(values, "combine_chunks"):
            values = values.combine_chunks()
        encoded = values if hasattr(values, "dictionary") else values.dictionary_encode()
        known = encoded.dictionary.to_pylist()
        return [*known, None], encoded.indices.cast("int64").fill_null(len(known)).to_numpy()
    seen: dict[Any, int] = {}
    plain = values.tolist() if hasattr(values, "tolist") else list(values)
    positions = np.fromiter((seen.setdefault(v, len(seen)) for v in plain), dtype=np.int64, count=len(plain))
    return list(seen), positions


def _numbers(name: str, values: Any) -> npt.NDArray[np.float64]:
    if hasattr(values, "to_numpy") and hasattr(values, "null_count"):
        values = values.to_numpy(zero_copy_only=False) if not hasattr(values, "num_chunks") else values.to_numpy()
    if isinstance(values, np.ndarray) and values.dtype.kind in "iufb":
        return values.astype(np.float64)
    try:
        return np.array([np.nan if v is None else v for v in values], dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:  # an integer may be larger than any float
        raise ConfigError(f"feature {name!r} needs numbers: {error}") from error
