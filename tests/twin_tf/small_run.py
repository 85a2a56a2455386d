"""Simulated logs, prepared data and a trained run, small enough to make once per test session, real in every part."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from beam_pipelines.build_examples import build_examples
from beam_pipelines.simulate_logs import simulate_logs
from tests.twin_tf.built_once import built_once
from twin_tf.config import Config, config_from_mapping, load_config
from twin_tf.core.files import sha256_of_file
from twin_tf.core.yaml_text import parse_yaml
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.models.twin import TwinModel
from twin_tf.records.format import Manifest
from twin_tf.records.packing import unpack
from twin_tf.renamed_settings import put
from twin_tf.runs.run import build_model, load_info, save_info
from twin_tf.training.train import train_model

LOGS = {
    "users": 60,
    "days": 40,
    "items": 800,
    "topics": 40,
    "median_history": 150,
    "max_history": 500,
    "targets": 4000,
    "explore": 0.2,
    "target_share": 0.4,
    "seed": 3,
}


def small_config(*overrides: str) -> Config:
    """The shipped `simulated` configuration with a small network, and features of the roles that it lacks."""
    plain = load_config("simulated").to_plain()
    position = {"name": "shown_at", "role": "context", "column": "page_position", "dim": 4}
    for feature in plain["schema"]["features"]:
        feature["dim"] = min(feature["dim"], 16)
    plain["schema"]["features"].append({**position, "encoding": {"kind": "identity", "size": 9}})
    slot = {**position, "name": "slot", "role": "candidate", "encoding": {"kind": "vocabulary"}, "type": "int"}
    place = {**position, "name": "place", "role": "candidate", "encoding": {"kind": "identity", "size": 9}}
    plain["schema"]["features"] += [slot, {**place, "serve_as": 2}]
    rates = {"kind": "numeric", "boundaries": [0.1, 0.2, 0.3, 0.4, 0.5]}
    counts = {"kind": "numeric", "boundaries": [1, 5, 20, 50]}
    plain["schema"]["features"] += [
        {"name": "click_rate", "role": "candidate", "from": "item_rate", "encoding": rates},
        {"name": "asked", "role": "context", "from": "user_count", "encoding": counts},
    ]
    plain["schema"]["history"]["max_length"] = 400
    plain["schema"]["targets"]["per_record"] = 32
    plain["model"] |= {"history_length": 300, "top_k": 40, "head_size": 8, "mixer": [16]}
    plain["model"]["short_term_length"] = 0  # soon traced; `two_days` and tests of every search have the block
    plain["model"]["relevance_init_scale"] = 100.0  # so sharp a start as the shipped one is for more data than these
    plain["training"] |= {"batch_records": 4, "epochs": 2}
    plain["training"] |= {"embedding_learning_rate": 0.1, "dense_learning_rate": 0.003}
    plain["serving"] = {"probes": 60, "warmup_lengths": [1, 50], "warmup_candidates": [1, 8]}
    for override in overrides:
        name, text = override.split("=")
        put(plain, name, parse_yaml(text, name))
    return config_from_mapping(plain)


@built_once
def small_logs(root: Path) -> dict[str, str]:
    """Raw logs; the arguments of `build_examples`."""
    simulate_logs(root / "raw", **LOGS)
    return {log: str(root / "raw" / f"{log}*.parquet") for log in ("events", "items", "users")}


@built_once
def small_data(root: Path) -> Manifest:
    """Prepared data, in `root/prepared`."""
    schema = small_config().schema
    assert schema is not None
    return build_examples(schema, **small_logs(root), output=root / "prepared", shards=2, progress=False)


@built_once
def small_run(root: Path) -> Path:
    """A trained run, `root/run`."""
    small_data(root)
    train_model(root / "prepared", root / "run", small_config())
    return root / "run"


def untrained(run: Path) -> tuple[TwinModel, Any]:
    """The model that the run started from, and the item ids by row."""
    return build_model(run, load_config(run / "config.yaml"), load_info(run))


@built_once
def small_model(root: Path) -> Path:
    """The run's exported model directory, `root/model`."""
    from export.saved_model.exporter import export_run

    export_run(small_run(root), root / "model")
    return root / "model"


def decode(manifest: Manifest, split: str) -> list[dict[str, Any]]:
    """Every record of a split as NumPy arrays and integers, read with TensorFlow's Example alone."""
    import tensorflow as tf

    found = []
    for path in manifest.shard_paths(split):
        for serialized in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            record: dict[str, Any] = {}
            for key, feature in tf.train.Example.FromString(serialized).features.feature.items():
                if feature.HasField("int64_list"):
                    (record[key],) = feature.int64_list.value
                else:
                    (packed,) = feature.bytes_list.value
                    record[key] = unpack(packed, manifest.widths[key])
                    if key.endswith("/time"):
                        record[key] += manifest.time_origin
            found.append(record)
    return found


def with_splits(manifest: Manifest, **splits: Any) -> Manifest:
    """The manifest with other shards in some splits."""
    return dataclasses.replace(manifest, splits={**manifest.splits, **splits})


def of_another_schema(prepared: Path, copy: Path) -> Path:
    """A copy of prepared data, made as it were with a schema of another name."""
    shutil.copytree(prepared, copy)
    manifest = Manifest.load(copy)
    schema = dataclasses.replace(manifest.schema, name="another")
    FeatureEncoder(schema, FeatureEncoder.load(prepared).fitted).save(copy)
    sign_prepared(dataclasses.replace(manifest, schema_fingerprint=schema.fingerprint))
    return copy


def sign_prepared(manifest: Manifest) -> None:
    """Writes another manifest into its directory, with the digests of the files as they lie there now."""
    root = Path(manifest.directory)
    files = {name: sha256_of_file(root / name) for name in manifest.files if (root / name).is_file()}
    changed = dataclasses.replace(manifest, files=files)
    (root / "manifest.json").write_text(changed.to_json(), encoding="utf-8")
    (root / "_SUCCESS").write_text(changed.sha256, encoding="ascii")


def sign_run(directory: Path) -> None:
    """Notes the digests of a run's files as they lie there now; what was removed is listed no more."""
    info = load_info(directory)
    files = {name: sha256_of_file(directory / name) for name in info.files if (directory / name).is_file()}
    save_info(directory, dataclasses.replace(info, files=files))


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
