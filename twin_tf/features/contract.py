"""The contract of encoded data: what an index, a time and a width mean in records, tables and requests alike.

It is made at preprocessing and travels as `contract.json` beside schema and vocabularies: with prepared data, run and
exported model. A schema or a vocabulary that was changed after that is found as soon as it is read, and a served model
says the contract of its weights in every answer. Vocabularies only grow: data of a contract whose vocabularies are the
beginning of another's mean the same under both.

Example:
    >>> FeatureEncoder.load("prepared").contract.digest[:8]
    '3f0c9a55'
    >>> difference(FeatureEncoder.load("monday"), FeatureEncoder.load("tuesday"))   # grown: nothing is different
    ''
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from twin_tf.core.dataclass_yaml import ConfigError, build, to_plain
from twin_tf.core.yaml_text import parse_json
from twin_tf.features.schema import FIRST_KNOWN, FeatureSchema

CONTRACT = "contract.json"

_PIECE = 1 << 16


class Encoding(Protocol):
    """A schema, and what the pipeline found for it; a `FeatureEncoder` is one."""

    @property
    def schema(self) -> FeatureSchema:
        """The feature schema."""

    @property
    def fitted(self) -> Mapping[str, Sequence[Any]]:
        """Feature -> values of its vocabulary in index order, or boundaries."""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """A vocabulary, told by its digest.

    Attributes:
        size: how many values it has.
        sha256: of its values in order.
    """

    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Contract:
    """The content of `contract.json`.

    Attributes:
        schema: `FeatureSchema.contents_fingerprint`: names, kinds, widths, units, lengths.
        vocabularies: feature -> its vocabulary.
        boundaries: numeric feature -> its rising boundaries, given or found.
        earlier: digests of the contracts that this one grew from; no part of its own digest.
    """

    schema: str
    vocabularies: Mapping[str, Vocabulary]
    boundaries: Mapping[str, tuple[float, ...]]
    earlier: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hexadecimal digits."""
        plain = dataclasses.asdict(self)
        del plain["earlier"]
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    @property
    def number(self) -> int:
        """The digest as a served model says it, an int64 above 0."""
        return number_of(self.digest)

    def to_json(self) -> str:
        """The text of `contract.json`."""
        return json.dumps({"digest": self.digest, **dataclasses.asdict(self)}, indent=1) + "\n"


def number_of(digest: str) -> int:
    """The first 63 bits of a hexadecimal digest: what fits into an int64, never below 1."""
    return max(1, int(digest[:16], 16) >> 1)


def contract_of(encoding: Encoding, earlier: Sequence[str] = ()) -> Contract:
    """The contract of a schema with its vocabularies and boundaries.

    Args:
        encoding: of prepared data, a run or a model.
        earlier: the contracts that it grew from.
    """
    features = encoding.schema.features
    kinds = {feature.name: feature.encoding_or_fail.kind for feature in features}
    vocabularies = {
        name: Vocabulary(len(values), _sha256(values))
        for name, values in encoding.fitted.items()
        if kinds.get(name) == "vocabulary"
    }
    boundaries = {
        feature.name: _boundaries(encoding, feature.name) for feature in features if kinds[feature.name] == "numeric"
    }
    contract = Contract(encoding.schema.contents_fingerprint, vocabularies, boundaries)
    others = tuple(digest for digest in dict.fromkeys(earlier) if digest != contract.digest)
    return dataclasses.replace(contract, earlier=others)


def recorded_contract(directory: str | Path) -> Contract | None:
    """The contract that lies in a directory; None if what is there was made before there were contracts.

    Raises:
        ConfigError: `contract.json` cannot be read, or does not agree with its own digest.
    """
    path = Path(directory) / CONTRACT
    try:
        plain = parse_json(path.read_bytes(), str(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(plain, dict):
        raise ConfigError(f"{path} must hold an object, not {type(plain).__name__}")
    digest = plain.pop("digest", None)
    contract = build(Contract, plain, str(path))
    if contract.digest != digest:
        raise ConfigError(f"{path} was changed after it was made: its digest is another")
    return contract


def check_recorded(directory: str | Path, encoding: Encoding) -> tuple[str, ...]:
    """Whether schema and vocabularies of a directory are those that its contract was made of.

    Args:
        directory: holds `contract.json`, or was made before there were contracts.
        encoding: what was read from there.

    Returns:
        The contracts that the recorded one grew from.

    Raises:
        ConfigError: a file was changed after it was made.
    """
    recorded = recorded_contract(directory)
    if recorded is None:
        return ()
    found = contract_of(encoding)
    if found.digest != recorded.digest:
        file = next(_changed_files(recorded, found))
        raise ConfigError(f"{Path(directory) / file} was changed after it was made: {CONTRACT} beside it says another")
    return recorded.earlier


def _changed_files(recorded: Contract, found: Contract) -> Iterator[str]:
    if recorded.schema != found.schema:
        yield "schema.yaml"
    for mine, theirs in ((recorded.vocabularies, found.vocabularies), (recorded.boundaries, found.boundaries)):
        yield from (
            f"vocabularies/{name}.json" for name in sorted({*mine, *theirs}) if mine.get(name) != theirs.get(name)
        )


def difference(mine: Encoding, theirs: Encoding, *, items_alone: bool = False) -> str:
    """Why an index, a time or a width does not mean the same under two contracts; empty if one grew from the other.

    This alone says whether two encodings agree: of a run and data, of two versions, of a run and a version.

    Args:
        mine: the one that is spoken of.
        theirs: the one that it is compared with.
        items_alone: only items are looked up: histories may be clustered in one of the two, and keep values.

    Returns:
        A clause that names the feature: `its vocabulary of device has 'ios' in row 2, not 'android'`.
    """
    schemas = [_without_histories(side.schema) if items_alone else side.schema for side in (mine, theirs)]
    if clause := schema_difference(*schemas):
        return clause
    for feature in mine.schema.features:
        name, kind = feature.name, feature.encoding_or_fail.kind
        if kind == "numeric":
            here, there = _boundaries(mine, name), _boundaries(theirs, name)
            if here != there:
                return f"its boundaries of {name} are {_listed(here)}, not {_listed(there)}"
        elif kind == "vocabulary":
            pairs = zip(mine.fitted[name], theirs.fitted[name], strict=False)  # one may be longer: it grew
            for row, (value, other) in enumerate(pairs, FIRST_KNOWN):
                if value != other:
                    return f"its vocabulary of {name} has {value!r} in row {row}, not {other!r}"
    return ""


def schema_difference(mine: FeatureSchema, theirs: FeatureSchema) -> str:
    """What differs between the contents of two schemas, one clause; empty if nothing does."""
    if mine.contents_fingerprint == theirs.contents_fingerprint:
        return ""
    here, there = (to_plain(schema.contents, defaults=True) for schema in (mine, theirs))
    return next(_clauses("schema", here, there))


def _clauses(path: str, mine: Any, theirs: Any) -> Iterator[str]:
    """Every place where two plain values differ."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in (*mine, *(key for key in theirs if key not in mine)):
            yield from _clauses(f"{path}.{key}", mine.get(key), theirs.get(key))
    elif isinstance(mine, list) and isinstance(theirs, list) and path == "schema.features":
        names = [[feature["name"] for feature in side] for side in (mine, theirs)]
        if names[0] != names[1]:
            yield f"its features are {', '.join(names[0])}, not {', '.join(names[1])}"
            return
        for one, other in zip(mine, theirs, strict=True):
            yield from _clauses(f"feature {one['name']}", one, other)
    elif mine != theirs:
        yield f"its {path.removeprefix('schema.')} is {mine!r}, not {theirs!r}"


def _without_histories(schema: FeatureSchema) -> FeatureSchema:
    """The schema as far as items go: the same for raw and clustered histories, with and without kept values."""
    features = tuple(dataclasses.replace(feature, keep_value=False) for feature in schema.features)
    return dataclasses.replace(schema.clustered(False), features=features)


def _boundaries(encoding: Encoding, name: str) -> tuple[float, ...]:
    given = encoding.schema.feature(name).encoding_or_fail.boundaries
    return tuple(float(number) for number in (encoding.fitted[name] if given is None else given))


def _listed(numbers: Sequence[float]) -> str:
    shown = ", ".join(f"{number:g}" for number in numbers[:4])
    return f"[{shown}{', ...' if len(numbers) > 4 else ''}]"


def _sha256(values: Sequence[Any]) -> str:
    found = hashlib.sha256()
    for piece in json_pieces(values):
        found.update(piece.encode())
    return found.hexdigest()


def json_pieces(values: Sequence[Any], *, ensure_ascii: bool = True) -> Iterator[str]:
    """`json.dumps` of values or of a pyarrow array, in pieces: 10^7 values are never Python objects at once."""
    yield "["
    for start in range(0, len(values), _PIECE):
        block: Any = values[start : start + _PIECE]
        plain = block.to_pylist() if hasattr(block, "to_pylist") else list(block)
        yield (", " if start else "") + json.dumps(plain, ensure_ascii=ensure_ascii)[1:-1]
    yield "]"
