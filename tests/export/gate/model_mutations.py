"""Mutations of what a model is: its weights, its graph, and assets as a wrong build would sign them.

All of them have their list of files made anew, so that only a check of what they mean can find them.
"""

import functools
import itertools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from tests.export.gate.mutations import (
    DESCRIPTION,
    EXTRA,
    Mutation,
    edit_arrays,
    edit_graph,
    edit_text,
    edit_values,
    rebuild,
    relist,
)
from tests.export.gate.variables import Variables
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.schema import FIRST_KNOWN

DATA = "variables/variables.data-00000-of-00001"
TABLES = "weights/tables/"


def of_weights(model: Path, variables: Variables, draw: random.Random) -> Iterator[Mutation]:
    """Other values in one variable after the other; endless.

    A row of an item feature's table counts only if an item of the catalogue has that value: no request can name others.
    """
    values = variables.values
    used = _used_rows(model, values)
    names = [
        name
        for name in sorted(values)
        if name.startswith(("weights/", "projection/", "lookup/ids", "lookup/item_rows")) and values[name].size > 1
    ]
    while True:
        for name in draw.sample(names, len(names)):
            value = values[name]
            rows = np.arange(FIRST_KNOWN if _is_table(name) else 0, len(value))
            if name.startswith((f"{TABLES}item_", f"{TABLES}relevance_")):
                rows = used[name.rpartition("-embedding_")[2]]
            hows = ["two rows exchanged", "a row of another"] if len(rows) > 1 and name != "lookup/ids" else []
            hows += ["rolled by a row"] if not _is_table(name) else []
            hows += ["a number is NaN", "a row of zeros"] if value.dtype.kind == "f" else []
            how, others = draw.choice(hows), value.copy()
            one, other = draw.sample(list(rows), 2) if len(rows) > 1 else (0, 0)
            if how == "two rows exchanged":
                others[[one, other]] = others[[other, one]]
            elif how == "a row of another":
                others[one] = others[other]
            elif how == "rolled by a row":
                others = np.roll(others, 1, axis=0)
            elif how == "a number is NaN":
                others.reshape(len(others), -1)[one, -1] = np.nan
            else:
                others[one] = 0
            if np.array_equal(others, value):  # two rows alike: drawn again
                continue
            what = f"{name}: {how}" + (f" ({one})" if "row" in how and "rolled" not in how else "")
            yield Mutation("relisted", DATA, what, relist(lambda copy, n=name, o=others: variables.write(copy, {n: o})))


def _is_table(name: str) -> bool:
    return name.startswith((TABLES, "projection/", "weights/item_features"))


def _used_rows(model: Path, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Item feature -> the rows of its table that an item of the catalogue has."""
    schema, features = FeatureEncoder.load(model / EXTRA).schema, values["weights/item_features"][FIRST_KNOWN:]
    return {
        name: rows[rows >= FIRST_KNOWN]
        for name, columns in schema.inherent_slices.items()
        for rows in [np.unique(features[:, columns])]
    }


def of_versions(variables: Variables, draw: random.Random) -> Iterator[Mutation]:
    """Versions and digests in the weights, and in `export.json`; endless."""
    while True:
        for name in ("weights_version", "table_version", "digests/contract", "digests/assets"):
            other = np.int64(1 if "version" in name else draw.getrandbits(62))
            yield Mutation(
                "relisted", DATA, f"{name}: {other}",
                relist(lambda copy, n=name, o=other: variables.write(copy, {n: o})),
            )  # fmt: skip
        strange = np.append(variables.values["digests/earlier"], draw.getrandbits(62))
        yield Mutation(
            "relisted", DATA, "digests/earlier: a strange contract is understood",
            relist(lambda copy, o=strange: variables.write(copy, {"digests/earlier": o})),
        )  # fmt: skip
        for name in ("weights_version", "table_version"):
            for said in (1, "1" * 5_000, -1, None, [1]):

                def edit(copy: Path, name: str = name, said: object = said) -> None:
                    text = json.dumps({**json.loads((copy / DESCRIPTION).read_text()), name: said})
                    (copy / DESCRIPTION).write_text(text.replace(f'"{"1" * 5_000}"', "1" * 5_000))

                yield Mutation("relisted", DESCRIPTION, f"{name}: {str(said)[:10]}", relist(edit))


def of_graph(draw: random.Random) -> Iterator[Mutation]:
    """Other signatures, operations and versions of the graph, each of them in turn; endless."""

    def exchange(signature: str, one: str, other: str) -> Callable[[saved_model_pb2.SavedModel], None]:
        def change(saved: saved_model_pb2.SavedModel) -> None:
            outputs = saved.meta_graphs[0].signature_def[signature].outputs
            outputs[one].name, outputs[other].name = outputs[other].name, outputs[one].name

        return change

    def rename(signature: str, side: str, name: str) -> Callable[[saved_model_pb2.SavedModel], None]:
        def change(saved: saved_model_pb2.SavedModel) -> None:
            tensors = getattr(saved.meta_graphs[0].signature_def[signature], side)
            tensors[f"{name}_"].CopyFrom(tensors.pop(name))

        return change

    def retype(signature: str, side: str, name: str) -> Callable[[saved_model_pb2.SavedModel], None]:
        def change(saved: saved_model_pb2.SavedModel) -> None:
            getattr(saved.meta_graphs[0].signature_def[signature], side)[name].dtype = types_pb2.DT_DOUBLE

        return change

    def fix(signature: str, name: str) -> Callable[[saved_model_pb2.SavedModel], None]:
        def change(saved: saved_model_pb2.SavedModel) -> None:
            saved.meta_graphs[0].signature_def[signature].inputs[name].tensor_shape.dim[0].size = 7

        return change

    def without(signature: str) -> Callable[[saved_model_pb2.SavedModel], None]:
        return lambda saved: saved.meta_graphs[0].signature_def.pop(signature) and None

    def method(saved: saved_model_pb2.SavedModel) -> None:
        saved.meta_graphs[0].signature_def["serving_default"].method_name = "mine"

    def tag(saved: saved_model_pb2.SavedModel) -> None:
        saved.meta_graphs[0].meta_info_def.tags[0] = "train"

    def consumer(saved: saved_model_pb2.SavedModel) -> None:
        saved.meta_graphs[0].graph_def.versions.min_consumer = 10**6

    def operation(of: str, by: str, seed: float) -> Callable[[saved_model_pb2.SavedModel], None]:
        def change(saved: saved_model_pb2.SavedModel) -> None:
            functions = saved.meta_graphs[0].graph_def.library.function
            nodes = [node for function in functions for node in function.node_def if node.op == of]
            random.Random(seed).choice(nodes).op = by

        return change

    def compiled(saved: saved_model_pb2.SavedModel) -> None:
        saved.meta_graphs[0].graph_def.library.function[0].attr["_XlaMustCompile"].b = True

    while True:
        changes = {
            "live_projection: found and live exchanged": exchange("live_projection", "found", "live"),
            **{
                f"{name}: unknown_items and adjusted exchanged": exchange(name, "unknown_items", "adjusted")
                for name in ("serving_default", "retrieve")
            },
            "serving_default: contract and weights_version exchanged": exchange(
                "serving_default", "contract", "weights_version"
            ),
            "self_check: assets and contract exchanged": exchange("self_check", "assets", "contract"),
            "serving_default: output probability renamed": rename("serving_default", "outputs", "probability"),
            "retrieve: output valid renamed": rename("retrieve", "outputs", "valid"),
            "item_projection: input renamed": rename("item_projection", "inputs", "item"),
            "serving_default: probability is double": retype("serving_default", "outputs", "probability"),
            "live_projection: item is double": retype("live_projection", "inputs", "item"),
            "self_check: of 7 users alone": fix("self_check", "probe"),
            **{f"{name} is missing": without(name) for name in ("retrieve", "self_check", "serving_default")},
            "serving_default: another method": method,
            "another tag": tag,
            "for a later TensorFlow": consumer,
            "a function that XLA must compile": compiled,
            "an operation that nobody has": operation("Mul", "MulTwin", draw.random()),
            "an operation that reads files": operation("Identity", "ReadFile", draw.random()),
            "an operation that draws": operation("Shape", "RandomUniform", draw.random()),
        }
        for what in draw.sample(list(changes), len(changes)):
            yield Mutation("relisted", "saved_model.pb", what, relist(edit_graph(changes[what])))


def of_contract(variables: Variables, draw: random.Random) -> Iterator[Mutation]:
    """Schemas and vocabularies of another contract, signed as if they were the weights' own; endless."""
    while True:
        changes = {
            "schema.yaml": {
                "ms made s": edit_text("schema.yaml", "unit: ms", "unit: s"),
                "max_length changed": edit_text("schema.yaml", "max_length: 60", f"max_length: {draw.randint(61, 99)}"),
                "a boundary moved": edit_text("schema.yaml", "- 2.0\n", f"- {draw.uniform(2.1, 7.9):.2f}\n"),
                "an age boundary moved": edit_text("schema.yaml", "- 86400.0", f"- {draw.randint(3601, 86399)}.0"),
            },
            **{
                f"vocabularies/{name}.json": {
                    how: edit_values(name, how, draw)
                    for how in ("two values swapped", "rolled by one", "a value renamed")
                }
                for name in ("age_group", "author", "topic", "video")
            },
        }
        drawn = [(name, how) for name, hows in changes.items() for how in hows]
        for name, how in draw.sample(drawn, len(drawn)):
            yield Mutation("rebuilt", f"{EXTRA}/{name}", how, rebuild(variables, changes[name][how]))


def of_assets(variables: Variables, draw: random.Random) -> Iterator[Mutation]:
    """Probes, sweep, catalogue and warm-up that do not go with the weights, signed as if they did; endless."""

    def arrays(name: str, **how: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
        keys = {key.replace("__", "/"): change for key, change in how.items()}
        return edit_arrays(name, lambda old: {**old, **{key: change(old[key]) for key, change in keys.items()}})

    def first(rows: int) -> Callable[[Path], None]:
        return edit_arrays("probes.npz", lambda old: {name: array[:rows] for name, array in old.items()})

    def lacking(name: str, key: str) -> Callable[[Path], None]:
        return edit_arrays(name, lambda old: {one: array for one, array in old.items() if one != key})

    def catalogue(key: str, value: object) -> Callable[[Path], None]:
        def change(copy: Path) -> None:
            path = copy / EXTRA / "catalogue.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))

        return change

    def warm_up(content: bytes) -> Callable[[Path], None]:
        return lambda copy: (copy / EXTRA / "tf_serving_warmup_requests").write_bytes(content) and None

    while True:
        raised = functools.partial(np.add, draw.uniform(1e-3, 1e-2))
        changes = {
            ("probes.npz", "no candidates"): arrays("probes.npz", input__candidate_count=np.zeros_like),
            ("probes.npz", "a single probe"): first(1),
            ("probes.npz", "no probe"): first(0),
            ("probes.npz", "an input less"): lacking("probes.npz", "input/history_time"),
            ("probes.npz", "no probabilities"): lacking("probes.npz", "expected/probability"),
            ("probes.npz", "other probabilities"): arrays("probes.npz", expected__probability=raised),
            ("probes.npz", "text"): arrays("probes.npz", input__candidate_count=lambda old: old.astype(str)),
            ("probes.npz", "a dimension less"): arrays("probes.npz", input__history_item=lambda old: old[:, 0]),
            ("sweep.npz", "other probabilities"): arrays("sweep.npz", expected__probability=raised),
            ("sweep.npz", "other projections"): arrays("sweep.npz", projections=lambda old: np.roll(old, 1, axis=0)),
            ("sweep.npz", "one user"): arrays("sweep.npz", users=np.zeros_like),
            ("sweep.npz", "values left out"): arrays("sweep.npz", input__user_device=lambda old: np.minimum(old, 2)),
            ("sweep.npz", "an array less"): lacking("sweep.npz", "items"),
            ("catalogue.json", "other ids"): catalogue("ids_sha256", "0" * 64),
            ("catalogue.json", "an item more"): catalogue("items", 123),
            ("catalogue.json", "no number"): catalogue("items", "many"),
            ("tf_serving_warmup_requests", "empty"): warm_up(b""),
            ("tf_serving_warmup_requests", "no records"): warm_up(draw.randbytes(50)),
        }
        for name, what in draw.sample(list(changes), len(changes)):
            change = changes[name, what]
            yield Mutation("rebuilt", f"{EXTRA}/{name}", what, rebuild(variables, change))


def in_turn(*generators: Iterator[Mutation]) -> Iterator[Mutation]:
    """One of each, again and again."""
    return itertools.chain.from_iterable(zip(*generators, strict=False))
