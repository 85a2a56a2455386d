"""A run directory: everything that training leaves behind and export needs, and nothing else.

run/config.yaml     model, training and serving settings, with the schema; every setting written out
    schema.yaml, vocabularies/, contract.json, items/items.parquet      as in the prepared data
    items/seen.npy  which items it was trained on, see `twin_tf.records.seen_items`
    items/search_state.npy  what the search keeps of each item, where it is one by frozen item embeddings
    run.json        cardinalities, fingerprint, weights version, where the data were
    checkpoints/    tf.train.Checkpoint, see `twin_tf.runs.checkpoints`; `checkpoint` in it names what the run hands on
    tensorboard/    summaries
    report.json     what training measured; report.md, learning_curve.png and learning_curve.csv: the same for people
    evaluation-<split>*     what `twin-tf evaluate` measured: JSON, CSV, a page and its figures
    .lock           held by the process that trains
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twin_tf.config import Config
from twin_tf.core.dataclass_yaml import ConfigError, build, to_plain
from twin_tf.core.digests import check_content, check_files, say_unchecked
from twin_tf.core.files import sha256_of_file, write_json
from twin_tf.core.keras_api import tf
from twin_tf.core.mirrors import at_hand
from twin_tf.core.yaml_text import parse_json
from twin_tf.features.contract import CONTRACT
from twin_tf.features.encoders import vocabulary_file
from twin_tf.features.request_names import (
    CANDIDATE_COUNT,
    CANDIDATE_ITEM,
    HISTORY_COUNT,
    HISTORY_ITEM,
    HISTORY_LENGTH,
    candidate_name,
    request_inputs,
)
from twin_tf.features.schema import FIRST_KNOWN, UNKNOWN, FeatureSchema
from twin_tf.models.index_rows import counted_of_items, index_rows
from twin_tf.models.twin import TwinModel
from twin_tf.records import format as records
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import load_item_features
from twin_tf.records.request_batch import request_batch
from twin_tf.records.seen_items import SEEN_ITEMS
from twin_tf.runs.checkpoints import DamagedCheckpointError, checkpoint_name, latest_valid_state
from twin_tf.runs.item_embeddings import load_item_embeddings
from twin_tf.runs.recorded_settings import CONFIG, load_run_config
from twin_tf.search import find_strategy
from twin_tf.search.protocol import Vectors

RUN = "run.json"
REPORT = "report.json"
CHECKPOINTS = "checkpoints"
SEARCH_STATE = "items/search_state.npy"


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """The content of `run.json`.

    Attributes:
        schema_fingerprint: of the schema that the run was trained with.
        cardinalities: feature -> rows of its embedding table.
        prepared: the directory of prepared data it was trained on.
        weights_version: UTC seconds when training ended; 0 while it has not.
        steps: optimiser steps behind the weights; 0 while training has not ended.
        manifest_sha256: of the data's manifest.
        init_from: the run whose weights it started from.
        trained_until: the moment, in the unit of the logs, at which the training window of its data ended; 0: unknown.
        commit: of the code that began it, see `code_version.commit`; empty: unknown.
        code: `code_version.code_digest` of every code that trained into it, more than one where another code resumed
            it; empty: trained before this was kept.
        files: what is read again of the run, checkpoints apart -> SHA-256. From the start what it copies of the
            prepared data, with the digests of their manifest; once training has ended, its own files too. Empty in
            runs of earlier code.
        label_of_all: the label that every target it was trained on has, where they have but one.
        sha256: of all the rest of this file; written by `save_info`.
    """

    schema_fingerprint: str
    cardinalities: Mapping[str, int]
    prepared: str
    weights_version: int = 0
    steps: int = 0
    manifest_sha256: str = ""
    init_from: str | None = None
    trained_until: int = 0
    commit: str = ""
    code: tuple[str, ...] = ()
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    label_of_all: int | None = None
    sha256: str = ""


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained run, loaded.

    Attributes:
        directory: where it lies.
        config: its settings; `config.schema` is set.
        info: `run.json`.
        model: with the trained weights.
        item_ids: int64 `(items,)` raw ids by item row, -1 in rows 0 and 1.
    """

    directory: Path
    config: Config
    info: RunInfo
    model: TwinModel
    item_ids: npt.NDArray[np.int64]

    @property
    def schema(self) -> FeatureSchema:
        """The feature schema."""
        return schema_of(self.config)

    def predict(self, request: Mapping[str, npt.ArrayLike]) -> npt.NDArray[np.float32]:
        """Click probabilities of a request, as the served model gives them, with the live weights and no server.

        Args:
            request: arrays by the names of `twin_tf.features.request_names`, `B` users, `L` behaviours oldest first,
                `C` candidates: `history_item`, `history_time` `(B, L)` and `request_time` `(B,)` int64,
                `candidate_item` int64 `(B, C)`, and the features' indices, int32: `history_<cross>` `(B, L)`,
                `user_<feature>` and `context_<feature>` `(B,)`, `candidate_<feature>` `(B, C)`. Left out,
                `history_length` and `candidate_count` say that all are real, `history_count` that each entry stands for
                one behaviour, and features counted of items that they are what the catalogue says.

        Returns:
            float32 `(B, C)`; 0 for candidates that are padding.

        Raises:
            ValueError: a name is missing.
        """
        given = {name: np.asarray(value) for name, value in request.items()}
        defaults = {HISTORY_LENGTH: HISTORY_ITEM, CANDIDATE_COUNT: CANDIDATE_ITEM}
        for name, of in defaults.items():
            if of in given:
                users, width = given[of].shape
                given.setdefault(name, np.full(users, width, np.int32))
        if HISTORY_ITEM in given:
            given.setdefault(HISTORY_COUNT, np.ones(given[HISTORY_ITEM].shape, np.int32))
        if CANDIDATE_ITEM in given:
            for feature in self.schema.counted_item:
                given.setdefault(candidate_name(feature.name), np.zeros(given[CANDIDATE_ITEM].shape, np.int32))
        missing = sorted(set(request_inputs(self.schema)) - given.keys())
        if missing:
            raise ValueError(f"the request lacks {', '.join(missing)}")
        tensors = {name: tf.constant(value) for name, value in given.items()}
        counted = partial(counted_of_items, self.model)
        batch, _ = request_batch(tensors, self.schema, self._rows, index_rows(self.model), counted)
        probability = tf.sigmoid(self.model.score(batch).logit)
        real = tf.sequence_mask(batch.targets.count, tf.shape(probability)[1])
        found: npt.NDArray[np.float32] = tf.where(real, probability, 0.0).numpy()
        return found

    def _rows(self, ids: tf.Tensor) -> tf.Tensor:
        """Raw item ids to item rows."""
        known, rows = self._catalogue
        place = np.minimum(np.searchsorted(known, ids.numpy()), len(known) - 1)
        return tf.constant(np.where(known[place] == ids.numpy(), rows[place], UNKNOWN), tf.int32)

    @cached_property
    def _catalogue(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The raw ids in rising order, and their rows; rows 0 and 1 stand for no item and are named by no request."""
        order = np.argsort(self.item_ids[FIRST_KNOWN:])
        rows = np.concatenate([[UNKNOWN], FIRST_KNOWN + order])
        ids = np.concatenate([[np.iinfo(np.int64).min], self.item_ids[FIRST_KNOWN:][order]])
        return ids, rows


def schema_of(config: Config) -> FeatureSchema:
    """The schema of a configuration that must have one."""
    if config.schema is None:
        raise ConfigError("the configuration has no schema section")
    return config.schema


def copied_files(manifest: Manifest) -> dict[str, str]:
    """What a run copies of prepared data -> SHA-256, as the manifest has it.

    So a file that was damaged in the data, and read with `--no-verify`, is damaged in the run too.
    """
    fitted = (feature for feature in manifest.schema.features if feature.encoding_or_fail.fitted)
    contract = (CONTRACT,) if (Path(manifest.directory) / CONTRACT).is_file() else ()  # earlier data have none
    names = (records.SCHEMA, *map(vocabulary_file, fitted), *contract, records.ITEMS)
    return {name: manifest.files.get(name) or sha256_of_file(Path(manifest.directory) / name) for name in names}


def own_files(directory: Path) -> dict[str, str]:
    """What training itself has written into a run and is read again, checkpoints apart -> SHA-256."""
    names = (CONFIG, SEEN_ITEMS, SEARCH_STATE)
    return {name: sha256_of_file(directory / name) for name in names if (directory / name).is_file()}


def check_run_files(directory: Path, info: RunInfo) -> None:
    """Compares the files of a run, checkpoints apart, with their digests; a warning for a run that has none.

    Raises:
        ConfigError: a file is missing or damaged.
    """
    if not info.sha256:
        say_unchecked(f"the run {directory}")
        return
    content, advice = _content(info), "copy the run anew or train it again; --no-verify reads it as it is"
    check_content(content, info.sha256, str(directory / RUN), "its last line", advice)
    check_files(directory, info.files, RUN, advice)


def create_run(directory: Path, manifest: Manifest, config: Config, info: RunInfo) -> None:
    """Fills a run directory with all that training starts from; `run.json` comes last and says that it is whole."""
    for name in copied_files(manifest):
        (directory / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(Path(manifest.directory) / name, directory / name)
    dataclasses.replace(config, schema=manifest.schema).save(directory / CONFIG)
    save_info(directory, info)


def save_info(directory: Path, info: RunInfo) -> None:
    """Writes `run.json` by rename, so that readers see the old or the new one."""
    write_json(directory / RUN, to_plain(info) | {"sha256": hashlib.sha256(_content(info)).hexdigest()})


def _content(info: RunInfo) -> bytes:
    """What the digest of `run.json` is of."""
    return json.dumps(to_plain(dataclasses.replace(info, sha256="")), sort_keys=True).encode()


def load_info(directory: Path) -> RunInfo:
    """Reads `run.json`.

    Raises:
        ConfigError: the directory is not a run.
    """
    path = directory / RUN
    if not path.is_file():
        raise ConfigError(f"{directory} is not a run: it has no {RUN}; run `twin-tf train` first")
    return build(RunInfo, parse_json(path.read_bytes(), str(path)), str(path))


def build_model(directory: Path, config: Config, info: RunInfo) -> tuple[TwinModel, npt.NDArray[np.int64]]:
    """The untrained model of a run, and its item ids by row.

    Args:
        directory: the run, or the prepared data that it is to be trained on.
        config: its settings.
        info: its `run.json`.

    Raises:
        ConfigError: settings that make no model, or item embeddings that are missing or do not go with the data.
    """
    features, ids = load_item_features(directory, schema_of(config))
    state = _search_state(directory, config, info)
    seed = config.training.seed
    model = TwinModel(schema_of(config), config.model, features, info.cardinalities, seed, config.training, state)
    return model, ids


def _search_state(directory: Path, config: Config, info: RunInfo) -> Vectors | None:
    """What the search keeps of each item: the run's own, or made of `training.item_embeddings`."""
    strategy = find_strategy(config.model.search)
    if not strategy.needs_embeddings:
        return None
    if (directory / SEARCH_STATE).is_file():
        state: Vectors = np.load(directory / SEARCH_STATE, allow_pickle=False)
        return state
    given = config.training.item_embeddings
    if given is None:
        raise ConfigError(
            f"model.search: {config.model.search} needs training.item_embeddings, the directory that "
            "`twin-tf item-embeddings` wrote"
        )
    vectors = load_item_embeddings(given, directory, info.trained_until)
    return strategy.item_state(vectors, config.model, config.training.seed)


def keep_search_state(directory: Path, model: TwinModel) -> None:
    """Lets a run hold what its search keeps of each item: the embeddings may be gone by the time it is exported."""
    if model.item_state is not None:
        np.save(directory / SEARCH_STATE, model.item_state.numpy(), allow_pickle=False)


def finished_checkpoint(directory: Path, *, verify: bool = True) -> str:
    """The checkpoint that holds what a run has learned; whoever reads a finished run asks for it first.

    Args:
        directory: of the run.
        verify: whether to compare the run's other files with their SHA-256 too.

    Raises:
        ConfigError: the directory is not a run, training has not ended, or a file is damaged.
    """
    info = load_info(directory)
    try:
        checkpoint = tf.train.latest_checkpoint(str(directory / CHECKPOINTS))
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{directory / CHECKPOINTS}/checkpoint is damaged; copy the run anew or train it again"
        ) from error
    if not info.weights_version or checkpoint is None:
        raise ConfigError(f"{directory} has no finished training: train it to the end first")
    if info.steps and Path(checkpoint).name != checkpoint_name(info.steps):
        raise ConfigError(
            f"{directory / CHECKPOINTS}/checkpoint names {Path(checkpoint).name}, but {RUN} says that the run hands on "
            f"{checkpoint_name(info.steps)}; copy the run anew or train it again"
        )
    if verify:
        check_run_files(directory, info)
    try:
        latest_valid_state(directory / CHECKPOINTS, Path(checkpoint).name)
    except DamagedCheckpointError as damage:
        raise ConfigError(f"{directory} cannot be used: {damage}; train it again") from damage
    return str(checkpoint)


def load_run(directory: str | Path, *, verify: bool = True, history_length: int | None = None) -> Run:
    """Loads a trained run.

    Args:
        directory: of the run, local or in a bucket, from which it is copied.
        verify: see `finished_checkpoint`.
        history_length: let targets see at most so many of the behaviours that the run's own settings show them.

    Raises:
        ConfigError: the directory is not a run, training has not ended, or a file of it is damaged.
    """
    root = at_hand(directory)
    checkpoint, info = finished_checkpoint(root, verify=verify), load_info(root)
    config = load_run_config(root)
    if history_length is not None:
        shown = {n: min(history_length, getattr(config.model, n)) for n in ("history_length", "short_term_length")}
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, **shown))
    model, ids = build_model(root, config, info)
    tf.train.Checkpoint(model=model).restore(checkpoint).expect_partial().assert_existing_objects_matched()
    return Run(root, config, info, model, ids)
