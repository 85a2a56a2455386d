"""Small untrained models of every kind, ready to be exported, and calls of what was exported in the C++ session."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from export.session.child_process import child_environment
from tests.patience import PATIENCE_S
from tests.twin_tf.toy import CONFIG, make_schema
from twin_tf.core.keras_api import tf
from twin_tf.features.schema import FeatureSchema, schema_from_mapping
from twin_tf.models.twin import TwinModel
from twin_tf.records.batch import Batch, History, Targets

TOPICS = {
    "name": "topics",
    "role": "inherent",
    "dim": 3,
    "multi_valued": {"max_values": 3},
    "encoding": {"kind": "hash", "buckets": 12},
}
MINUTE, NOW = 60, 1_700_000_000


@dataclasses.dataclass(frozen=True)
class Toy:
    """A model with its catalogue of `items` known items, whose raw ids lie scattered."""

    model: TwinModel
    schema: FeatureSchema
    item_ids: np.ndarray
    features: np.ndarray


def make_toy(items=60, videos=60, seed=1, topics=False, item_state=None, **changes) -> Toy:
    """`videos` is a vocabulary that may grow with the catalogue; `changes` are of the network's settings."""
    plain = make_schema().to_plain()
    if topics:
        plain["features"].insert(1, TOPICS)
    schema = schema_from_mapping(plain)
    generator = np.random.default_rng(99)  # a larger catalogue begins with the smaller one
    ids = np.concatenate([[-1, -1], generator.permutation(1 << 20)[:items] * 7919 - 10**9])
    generator = np.random.default_rng(98)
    columns = [2 + np.arange(items) % videos, *([generator.integers(2, 14, (items, 3))] if topics else [])]
    columns.append(generator.integers(2, 11, (1 << 10))[:items])
    features = np.concatenate([np.zeros((2, 5 if topics else 2)), np.column_stack(columns)]).astype(np.int32)
    features[1] = [1, 1, 0, 0, 1] if topics else [1, 1]
    if topics:
        features[5::3, 3] = 0  # an item of two topics, and one of none
        features[7, 1:4] = 0
    sizes = {f.name: f.encoding_or_fail.cardinality() for f in schema.features} | {"video": videos + 2}
    settings = dataclasses.replace(CONFIG, **changes)
    model = TwinModel(schema, settings, features, sizes, seed, item_state=item_state)
    for table in model.cross_embedding.tables.values():
        table.assign(tf.constant(generator.normal(0, 2, table.shape).astype(np.float32)))
    return Toy(model, schema, ids, features)


def make_requests(toy: Toy, users=6, columns=40, candidates=4, seed=1):
    """Requests by the contract: known and unknown ids, indices in and out of range, no history or a full one."""
    generator = np.random.default_rng(seed)

    def ids(shape):
        return np.where(generator.random(shape) < 0.1, 5, generator.choice(toy.item_ids[2:], shape))

    length = generator.integers(0, columns + 1, users).astype(np.int32)
    length[:2] = [0, columns]
    return {
        "history_item": ids((users, columns)),
        "history_length": length,
        "history_time": np.sort(NOW - generator.integers(1, 10**5, (users, columns)) * MINUTE, axis=1),
        "history_play_time": generator.integers(-1, 9, (users, columns)).astype(np.int32),
        "request_time": NOW + generator.integers(0, 10**5, users),
        "candidate_item": ids((users, candidates)),
        "candidate_count": np.full(users, candidates, np.int32),
        "user_sex": generator.integers(-1, 6, users).astype(np.int32),
        "context_page": generator.integers(-1, 8, users).astype(np.int32),
    }


def as_trained(toy: Toy, request) -> Batch:
    """The same requests as the model's own batch: rows looked up in a dictionary."""
    row = {int(one): number for number, one in enumerate(toy.item_ids) if number >= 2}
    rows = {
        name: tf.constant(np.vectorize(lambda one: row.get(int(one), 1), otypes=[np.int32])(request[name]))
        for name in ("history_item", "candidate_item")
    }
    history = History(
        rows["history_item"],
        tf.constant(request["history_time"]),
        {"play_time": tf.constant(request["history_play_time"])},
        tf.constant(request["history_length"]),
        tf.constant(request.get("history_count", np.ones_like(request["history_item"])), tf.int32),
    )
    targets = Targets(
        rows["candidate_item"],
        tf.constant(request["request_time"])[:, None],
        tf.constant(request["history_length"])[:, None],
        {"page": tf.constant(request["context_page"])[:, None]},
        tf.constant(request["candidate_count"]),
    )
    nothing = tf.zeros([0, 0])
    return Batch(
        history,
        targets,
        {"sex": tf.constant(request["user_sex"])},
        tf.zeros([len(request["user_sex"])], tf.int64),
        nothing,
        nothing,
    )


def in_cpp(directory: Path, calls):
    """Runs [(model directory, signature, inputs)] without TensorFlow's Python: outputs, or (status, sentence)."""
    directory.mkdir(exist_ok=True)
    listed = []
    for number, (model, signature, inputs) in enumerate(calls):
        np.savez(directory / f"{number}.npz", **inputs)
        listed.append([str(model), signature, str(number)])
    (directory / "calls.json").write_text(json.dumps(listed))
    script = str(Path(__file__).with_name("cpp_process.py"))
    command = [sys.executable, script, str(directory)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=child_environment(), timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = []
    for number in range(len(calls)):
        failed = directory / f"{number}.error.json"
        if failed.exists():
            answers.append(tuple(json.loads(failed.read_text())))
        else:
            with np.load(directory / f"{number}.out.npz") as file:
                answers.append(dict(file))
    return answers


def with_variables(model: Path, copy: Path, changes):
    """A copy of an exported model with other values in some variables: key -> what becomes of its array."""
    shutil.copytree(model, copy)
    prefix = str(copy / "variables/variables")
    reader = tf.train.load_checkpoint(prefix)
    names = sorted(reader.get_variable_to_shape_map())
    tensors = [reader.get_tensor(name) for name in names]
    for key, change in changes.items():
        place = names.index(f"{key}/.ATTRIBUTES/VARIABLE_VALUE")
        tensors[place] = change(tensors[place].copy())
    shutil.rmtree(copy / "variables")
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors)
    index, data = Path(f"{prefix}.index"), Path(f"{prefix}.data-00000-of-00001")
    assert index.exists() and data.exists()
    return copy
