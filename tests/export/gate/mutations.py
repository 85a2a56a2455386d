"""Seeded mutations of an exported model, for `test_mutations`.

careless   a file is another one, and the list of files (`files.json`) stays as it was
relisted   the list is made anew, as by somebody who copies files into a version and lists them
rebuilt    contract, catalogue's list and the weights' own digests are made anew too, as a wrong build would

A generator takes a model and a `random.Random` and says what it will do; nothing is drawn that leaves a version as it
is (`Mutation.change` fails if it does).
"""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tensorflow.core.protobuf import saved_model_pb2

from export.contract.file_manifest import MANIFEST, assets_digest, write_manifest
from tests.export.gate.variables import Variables
from twin_tf.features.contract import number_of
from twin_tf.features.encoders import FeatureEncoder

EXTRA = "assets.extra"
DESCRIPTION = f"{EXTRA}/export.json"


class Mutation(NamedTuple):
    """One.

    Attributes:
        kind: careless, relisted or rebuilt.
        file: which is changed.
        what: is done to it.
        change: does it to a copy of the model.
    """

    kind: str
    file: str
    what: str
    change: Callable[[Path], None]


def copy_of(model: Path, copy: Path) -> Path:
    """A copy that shares its large files with the model: `write` puts another one in their place."""

    def take(source: str, target: str) -> None:
        if EXTRA in Path(source).parts:
            shutil.copyfile(source, target)
        else:
            Path(target).hardlink_to(source)

    return shutil.copytree(model, copy, copy_function=take)


def write(path: Path, content: bytes) -> None:
    """Puts a file in the place of another, whose other links keep what they have."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def files_of(model: Path) -> list[str]:
    return sorted(path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file())


def otherwise(content: bytes, how: str, draw: random.Random) -> bytes:
    """Other bytes than these."""
    place = draw.randrange(len(content))
    if how == "one bit flipped":
        return content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]
    if how == "64 bytes drawn anew":
        return content[:place] + draw.randbytes(64) + content[place + 64 :]
    if how == "cut off":
        return content[:place]
    if how == "bytes added":
        return content + draw.randbytes(draw.randint(1, 64))
    if how == "reversed":
        return content[::-1]
    assert how == "emptied"
    return b""


BYTES = ("one bit flipped", "64 bytes drawn anew", "cut off", "bytes added", "reversed", "emptied")


def of_bytes(model: Path, draw: random.Random, kind: str, names: list[str]) -> Iterator[Mutation]:
    """Other bytes in each of some files; endless."""
    while True:
        for name in draw.sample(names, len(names)):
            how, seed = draw.choice(BYTES), draw.random()

            def change(copy: Path, name: str = name, how: str = how, seed: float = seed) -> None:
                content = (copy / name).read_bytes()
                other = otherwise(content, how, random.Random(seed))
                assert other != content
                write(copy / name, other)

            yield Mutation(kind, name, how, change)


def of_directory(model: Path, draw: random.Random, kind: str, names: list[str]) -> Iterator[Mutation]:
    """Files that are missing, strange, or each other's; endless. Strange ones lie where those of `names` do."""
    places = sorted({Path(name).parent.as_posix() for name in names})
    while True:
        name = draw.choice(names)
        yield Mutation(kind, name, "deleted", lambda copy, name=name: (copy / name).unlink())
        new = (Path(draw.choice(places)) / f"{draw.randrange(10**6)}.json").as_posix()
        yield Mutation(kind, new, "added", lambda copy, new=new: (copy / new).write_text("{}"))
        one, other = draw.sample([name for name in names if name != MANIFEST], 2)

        def exchange(copy: Path, one: str = one, other: str = other) -> None:
            contents = [(copy / name).read_bytes() for name in (one, other)]
            assert contents[0] != contents[1]
            write(copy / one, contents[1])
            write(copy / other, contents[0])

        yield Mutation(kind, one, f"exchanged for {other}", exchange)


def of_list(draw: random.Random) -> Iterator[Mutation]:
    """A list of files that says something else; endless."""

    def edit(copy: Path, how: str, seed: float) -> None:
        inner = random.Random(seed)
        listed = json.loads((copy / MANIFEST).read_text())
        name = inner.choice(sorted(listed))
        if how == "an entry left out":
            del listed[name]
        elif how == "a digest of another file":
            other = inner.choice([one for one in sorted(listed) if one != name])
            listed[name]["sha256"] = listed[other]["sha256"]
        elif how == "a size too large":
            listed[name]["bytes"] += 1
        elif how == "a path outside":
            listed[f"../{name}"] = listed.pop(name)
        elif how == "half a surrogate pair":
            listed["\ud800"] = listed.pop(name)
        elif how == "a size of 5,000 digits":
            text = json.dumps(listed)
            (copy / MANIFEST).write_text(text.replace(f'"bytes": {listed[name]["bytes"]}', f'"bytes": {"9" * 5000}'))
            return
        elif how == "nested 900 times":
            (copy / MANIFEST).write_text("[" * 900 + "]" * 900)
            return
        (copy / MANIFEST).write_text(json.dumps(listed))

    while True:
        for how in (
            "an entry left out", "a digest of another file", "a size too large", "a path outside",
            "half a surrogate pair", "a size of 5,000 digits", "nested 900 times",
        ):  # fmt: skip
            seed = draw.random()
            yield Mutation("careless", MANIFEST, how, lambda copy, how=how, seed=seed: edit(copy, how, seed))


def relist(change: Callable[[Path], object]) -> Callable[[Path], None]:
    """A change, and the list of files made anew."""

    def changed(copy: Path) -> None:
        change(copy)
        write_manifest(copy)

    return changed


def relisted(mutations: Iterator[Mutation]) -> Iterator[Mutation]:
    for mutation in mutations:
        yield mutation._replace(kind="relisted", change=relist(mutation.change))


def rebuild(variables: Variables, change: Callable[[Path], object]) -> Callable[[Path], None]:
    """A change of the assets; contract, list and the digests in the weights made anew, as the exporter would have."""

    def changed(copy: Path) -> None:
        change(copy)
        extra = copy / EXTRA
        (extra / "contract.json").unlink()
        encoder = FeatureEncoder.load(extra)
        encoder.save(extra)
        description = json.loads((copy / DESCRIPTION).read_text())
        (copy / DESCRIPTION).write_text(json.dumps({**description, "contract": encoder.contract.digest}, indent=1))
        number = encoder.contract.number
        digests = {"contract": number, "assets": number_of(assets_digest(copy)), "earlier": np.array([number])}
        variables.write(copy, {f"digests/{name}": np.int64(value) for name, value in digests.items()})
        write_manifest(copy)

    return changed


def edit_text(name: str, before: str, after: str) -> Callable[[Path], None]:
    def change(copy: Path) -> None:
        text = (copy / EXTRA / name).read_text(encoding="utf-8")
        assert before in text and before != after
        (copy / EXTRA / name).write_text(text.replace(before, after, 1), encoding="utf-8")

    return change


def edit_arrays(name: str, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Callable[[Path], None]:
    """Other arrays in an `.npz`; values that are as they were are an error."""

    def changed(copy: Path) -> None:
        path = copy / EXTRA / name
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        others = change({name: array.copy() for name, array in arrays.items()})
        assert others.keys() != arrays.keys() or any(
            not np.array_equal(others[name], array) for name, array in arrays.items()
        )
        np.savez_compressed(path, allow_pickle=False, **others)

    return changed


def edit_values(name: str, how: str, draw: random.Random) -> Callable[[Path], None]:
    """Other values in a vocabulary."""
    seed = draw.random()

    def change(copy: Path) -> None:
        inner, path = random.Random(seed), copy / EXTRA / "vocabularies" / f"{name}.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        values = content["values"]
        if how == "two values swapped":
            one, other = inner.sample(range(len(values)), 2)
            values[one], values[other] = values[other], values[one]
        elif how == "rolled by one":
            values.insert(0, values.pop())
        elif how == "a value renamed":
            values[inner.randrange(len(values))] = "somebody else's"
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    return change


def edit_graph(change: Callable[[saved_model_pb2.SavedModel], None]) -> Callable[[Path], None]:
    """Another graph, told by its messages and not by its bytes."""

    def changed(copy: Path) -> None:
        path = copy / "saved_model.pb"
        saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
        before = saved_model_pb2.SavedModel.FromString(path.read_bytes())
        change(saved)
        assert saved != before
        write(path, saved.SerializeToString())

    return changed
