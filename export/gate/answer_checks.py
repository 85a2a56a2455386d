"""Does every signature answer as the trainer does, over every table, and is every number of the weights one?

Probes are real requests, of which there must be enough; the sweep reaches what they leave out.
"""

from pathlib import Path

import numpy as np

from export.contract.catalogue_file import CATALOGUE_FILE, catalogue_of, load_catalogue
from export.contract.file_manifest import EXPORT, EXTRA, read_description
from export.contract.probe_file import PROBES_FILE, Probes, batches
from export.contract.signatures import ADJUSTED, feature_contract, request_contract
from export.contract.sweep_file import SWEEP_FILE, VALUES, Sweep, load_sweep, sampled
from export.contract.tensors import Array
from export.gate.check import BEFORE, Check, first_faults
from export.session.checkpoint import Checkpoint
from export.session.loaded_version import LoadedVersion
from twin_tf.features import request_names as wire
from twin_tf.features.contract import recorded_contract
from twin_tf.features.encoders import FeatureEncoder
from twin_tf.features.schema import FIRST_KNOWN, UNKNOWN, FeatureSchema

FEWEST_PROBES, FEWEST_CANDIDATES, FEWEST_USERS = 10, 10, 2
SAME_RETRIEVED = 0.99
"""Share of the trainer's retrieved that `retrieve` must name: near ties fall either way."""
_ITEMS_A_CALL = 65_536
_ROUNDING = {"float32": 1e-5, "float16": 2e-3, "uint16": 2e-2}
"""By the type that the table is read as: how far, relatively, two roundings of one number may lie apart."""


def is_signed(directory: Path) -> bool:
    """Whether a model was exported with digests, and so must have all that goes with them."""
    return recorded_contract(directory / EXTRA) is not None


def check_labels(directory: Path, allow_one_class: bool) -> Check:
    """Whether the targets that the model was trained on have both labels, as far as the exporter says."""
    label = read_description(directory).get("label_of_all") if (directory / EXPORT).is_file() else None
    if label is None:
        return Check("labels", True, "not all targets that it was trained on are said to have one label")
    detail = f"every target that it was trained on {'is a click' if label else 'is no click'}"
    allowed = "as --allow-one-class allows" if allow_one_class else "--allow-one-class lets it pass"
    return Check("labels", allow_one_class, f"{detail}; {allowed}")


def check_probes(directory: Path, probes: Probes) -> Check:
    """Whether there are enough probes, and a sweep that reaches every table.

    Raises:
        ValueError: probes or sweep hold arrays of other types or shapes than requests and answers have.
    """
    encoder = FeatureEncoder.load(directory / EXTRA)
    missing = sorted(set(request_contract(encoder.schema)) - set(probes.inputs))
    if missing:
        return Check("probes", False, f"the probes lack the inputs {', '.join(missing)}; export it again")
    sweep = load_sweep(directory)
    for file, requests in ((PROBES_FILE, probes), *([] if sweep is None else [(SWEEP_FILE, sweep.requests)])):
        if misfit := _misfit(requests, encoder.schema):
            raise ValueError(f"{file} {misfit}; export it again")
    real, lengths = int(probes.real.sum()), probes.inputs[wire.HISTORY_LENGTH]
    figures = {"probes": float(len(lengths)), "candidates": float(real)}
    faults = []
    for what, found, fewest in (
        ("probes", len(lengths), FEWEST_PROBES),
        ("candidates", real, FEWEST_CANDIDATES),
    ):
        if found < fewest:
            faults.append(
                f"{found} {what} say too little: {fewest} are needed; raise serving.probes and export it again"
            )
    if not (lengths > 0).any():
        faults.append("no probe has a history")
    if sweep is None:
        if is_signed(directory):
            faults.append(f"{SWEEP_FILE} is missing; export it again")
        return first_faults("probes", faults, f"{len(lengths)} probes; {BEFORE}: no sweep over the tables", figures)
    if len(sweep.users):
        figures["users"] = float(len(np.unique(sweep.users)))
        if figures["users"] < FEWEST_USERS:
            faults.append(f"the probes are of {int(figures['users'])} user; {FEWEST_USERS} are needed")
    faults += _unswept(encoder, sweep)
    sound = f"{len(lengths)} probes with {real} candidates; the sweep reaches every table"
    return first_faults("probes", faults, sound, figures)


def _misfit(requests: Probes, schema: FeatureSchema) -> str:
    """Which array is none of a request or an answer, the end of a sentence; empty if none is."""
    wanted = {name: (contract.dtype, contract.rank) for name, contract in request_contract(schema).items()}
    answers = {"probability": ("float32", 2), "position": ("int32", 3)}
    wanted |= {name: answers[name] for name in answers if name in requests.expected or name == "probability"}
    arrays = {**requests.inputs, **requests.expected}
    for name, (dtype, rank) in wanted.items():
        if name not in arrays:
            return f"lacks {name}"
        if (arrays[name].dtype.name, arrays[name].ndim) != (dtype, rank):
            return f"holds {name} as {arrays[name].dtype.name} of {arrays[name].ndim} dimensions, not {dtype} of {rank}"
    if len({len(arrays[name]) for name in wanted}) > 1:
        return "holds arrays of different lengths"
    return ""


def _unswept(encoder: FeatureEncoder, sweep: Sweep) -> list[str]:
    """The features whose table the sweep does not reach all over."""
    schema, inputs, missed = encoder.schema, sweep.requests.inputs, []
    for name, features in (
        (wire.history_name, schema.stored_cross),
        (wire.user_name, schema.user),
        (wire.context_name, schema.stored_context),
        (wire.candidate_name, schema.requested_candidate),
    ):
        for feature in features:
            wanted = sampled(encoder.cardinality(feature))
            if name(feature.name) not in inputs or len(np.setdiff1d(wanted, inputs[name(feature.name)])):
                missed.append(f"the sweep leaves out values of {feature.name}; export it again")
    if not sweep.requests.real.any() or len(np.setdiff1d(sweep.items, inputs[wire.CANDIDATE_ITEM])):
        missed.append("the sweep leaves out items; export it again")
    return missed


def check_values(version: LoadedVersion, probes: Probes, tolerance: float) -> Check:
    """Whether `retrieve` and `item_projection` say what the trainer says, and `serving_default` to the sweep.

    Args:
        version: loaded.
        probes: with the trainer's retrieved.
        tolerance: the largest difference of a probability.
    """
    faults: list[str] = []
    figures: dict[str, float] = {}
    sweep = load_sweep(version.version_dir)
    for asked in (probes, *([] if sweep is None else [sweep.requests])):
        if "position" in asked.expected:
            faults += _retrieve_faults(version, asked, figures)
    if sweep is not None:
        worst = 0.0
        for rows, batch in batches(sweep.requests):
            answer = version.session.run("serving_default", batch, ["probability"])["probability"]
            expected = sweep.requests.expected["probability"][rows, : answer.shape[1]]
            difference = np.abs(answer - expected)
            worst = max(worst, float(np.nan_to_num(difference, nan=1.0, posinf=1.0).max(initial=0.0)))
        figures["sweep_served_minus_trained_max"] = worst
        if not worst <= tolerance:
            faults.append(f"probabilities of the sweep differ from the trainer's by up to {worst:.3g}")
        faults += _projection_faults(version, sweep)
        if ADJUSTED in version.session.signatures["serving_default"].outputs:
            faults += _count_faults(version, probes)
    sound = "retrieve, item_projection and the sweep's probabilities are the trainer's"
    return first_faults(
        "values", faults, sound if sweep is not None else f"retrieve is the trainer's; {BEFORE}", figures
    )


def _retrieve_faults(version: LoadedVersion, probes: Probes, figures: dict[str, float]) -> list[str]:
    same = wanted = 0
    for rows, batch in batches(probes):
        answer = version.session.run("retrieve", batch, ["position", "item", "score", "valid"])
        position, valid = answer["position"], answer["valid"]
        history, length = batch[wire.HISTORY_ITEM], batch[wire.HISTORY_LENGTH][:, None, None]
        if (valid & ((position < 0) | (position >= length))).any() or (~valid & (position != -1)).any():
            return ["retrieve names positions outside of the history"]
        named = np.take_along_axis(history[:, None, :], np.maximum(position, 0), axis=2)
        if (valid & (answer["item"] != named)).any():
            return ["retrieve names other items than those at its positions"]
        if not np.isfinite(answer["score"]).all():
            return ["retrieve gives scores that are no numbers"]
        real = probes.real[rows, : position.shape[1]]
        if valid[~real].any():
            return ["retrieve finds behaviours for padding"]
        expected = probes.expected["position"][rows, : position.shape[1]]
        for found, trained in zip(position[real], expected[real], strict=True):
            found, trained = found[found >= 0], trained[trained >= 0]
            same += len(np.intersect1d(found, trained))
            wanted += max(len(trained), len(np.unique(found)))
    figures["retrieved_alike"] = min(figures.get("retrieved_alike", 1.0), same / wanted if wanted else 1.0)
    if wanted and same < SAME_RETRIEVED * wanted:
        return [f"retrieve names {same / wanted:.1%} of what the trainer retrieves"]
    return []


def _count_faults(version: LoadedVersion, probes: Probes) -> list[str]:
    """Whether unknown items and adjusted values are counted: two strangers as candidates, said to be three."""
    with Checkpoint(version.version_dir) as checkpoint:
        known = checkpoint.read("lookup/ids")
    _, batch = next(batches(probes))
    history, stranger = batch[wire.HISTORY_ITEM], np.setdiff1d(np.arange(len(known) + 1), known)[0]
    unsaid = np.full((len(history), 2), UNKNOWN, np.int32)
    asked = {
        **batch,
        **{name: unsaid for name, array in batch.items() if wire.of_candidates(name) and array.ndim == 2},
        wire.CANDIDATE_ITEM: np.full((len(history), 2), stranger),
        wire.CANDIDATE_COUNT: np.full_like(batch[wire.CANDIDATE_COUNT], 3),
    }
    real = np.arange(history.shape[1]) < batch[wire.HISTORY_LENGTH][:, None]
    unknown = 2 + (~np.isin(history, known) & real).sum(axis=1)
    for name in ("serving_default", "retrieve"):
        before, after = (version.session.run(name, given) for given in (batch, asked))
        if (after["unknown_items"] != unknown).any() or (after[ADJUSTED] - before[ADJUSTED] != 1).any():
            return [f"{name} does not count unknown items and adjusted values as they are"]
    return []


def _projection_faults(version: LoadedVersion, sweep: Sweep) -> list[str]:
    answer = version.session.run("item_projection", {"item": sweep.items[:, None]}, ["projection", "found"])
    if not answer["found"].all():
        return [f"item_projection does not find {int((~answer['found']).sum())} items of the catalogue"]
    with Checkpoint(version.version_dir) as checkpoint:
        kind = checkpoint.read("projection/table").dtype.name
    expected, found = sweep.projections, answer["projection"][:, 0]
    if found.shape != expected.shape:
        return [f"item_projection gives {list(found.shape)} numbers, the trainer {list(expected.shape)}"]
    if not np.allclose(found, expected, rtol=_ROUNDING[kind], atol=1e-4):
        return ["item_projection differs from the trainer's"]
    return []


def check_lookup(version: LoadedVersion, schema: FeatureSchema) -> Check:
    """Whether each id of the catalogue, and no other, is found in its row by both signatures that look items up."""
    with Checkpoint(version.version_dir) as checkpoint:
        if "lookup/ids" not in checkpoint.names:
            return _no_catalogue("lookup", version.version_dir)
        known, rows = checkpoint.read("lookup/ids"), checkpoint.read("lookup/item_rows")
        table = checkpoint.read("projection/table")
    faults = []
    for start in range(0, len(known), _ITEMS_A_CALL):
        part = slice(start, start + _ITEMS_A_CALL)
        answer = version.session.run("item_projection", {"item": known[part, None]}, ["projection", "found"])
        if not answer["found"].all():
            lost = known[part][~answer["found"][:, 0]]
            faults.append(f"{len(lost)} items of the catalogue are not found, for example {lost[0]}")
        elif not np.array_equal(answer["projection"][:, 0], _as_floats(table[rows[part]])):
            faults.append("items of the catalogue have the projections of others")
        if faults:
            break
    faults += _stranger_faults(version, schema, known, table)
    return first_faults("lookup", faults, f"all {len(known)} items are found in their rows, and no others")


def check_catalogue(directory: Path) -> Check:
    """Whether ids and features of the items lie in the rows in which they were exported."""
    with Checkpoint(directory) as checkpoint:
        if "lookup/ids" not in checkpoint.names:
            return _no_catalogue("catalogue", directory)
        known, rows = checkpoint.read("lookup/ids"), checkpoint.read("lookup/item_rows")
        features = checkpoint.read("weights/item_features")
    if len(np.unique(known)) != len(known) or not np.array_equal(np.sort(rows), np.arange(len(rows)) + FIRST_KNOWN):
        return Check("catalogue", False, "it has an id twice, or rows that are not one for each id")
    catalogue = load_catalogue(directory)
    if catalogue is None:
        signed = is_signed(directory)
        return Check("catalogue", not signed, f"{CATALOGUE_FILE} is missing; export it again" if signed else BEFORE)
    ids = np.zeros(len(known) + FIRST_KNOWN, np.int64)
    ids[rows] = known
    found = catalogue_of(ids, features)
    faults = []
    if (found.items, found.ids_sha256) != (catalogue.items, catalogue.ids_sha256):
        faults.append("it has other ids in its rows than were exported")
    if found.features_sha256 != catalogue.features_sha256:
        faults.append("its items have other features than were exported")
    return first_faults("catalogue", faults, f"{len(known)} items with ids and features as they were exported")


def _no_catalogue(name: str, directory: Path) -> Check:
    return Check(name, not is_signed(directory), f"{BEFORE}: its catalogue cannot be read")


def _stranger_faults(version: LoadedVersion, schema: FeatureSchema, known: Array, table: Array) -> list[str]:
    """Whether ids that are not in the catalogue are told from those that are."""
    beside = np.concatenate([known[:VALUES] + 1, known[:VALUES] - 1, [0, -1, np.iinfo(np.int64).max]])
    strangers = np.setdiff1d(beside, known)
    answer = version.session.run("item_projection", {"item": strangers[:, None]}, ["projection", "found"])
    if answer["found"].any() or not (answer["projection"][:, 0] == _as_floats(table[[UNKNOWN]])).all():
        return ["ids that are not in the catalogue are found there"]
    items = np.concatenate([known[:VALUES], strangers])
    is_known = np.arange(len(items)) < len(known[:VALUES])
    for given in (True, False):
        inputs: dict[str, Array] = {"item": items[:, None]}
        for name, contract in feature_contract(schema).items():
            shape = (len(items), 1, *([contract.width] if contract.width else []))
            inputs[name] = np.full(shape, UNKNOWN if given else 0, np.int32)
        answer = version.session.run("live_projection", inputs, ["projection", "found", "live"])
        if (answer["found"][:, 0] != is_known).any() or (answer["live"][:, 0] != (~is_known & given)).any():
            return ["live_projection does not tell known items from others by found and live"]
        if not np.isfinite(answer["projection"]).all():
            return ["live_projection gives projections that are no numbers"]
    return []


def check_weights(directory: Path) -> Check:
    """Whether every float of the variables is a number."""
    with Checkpoint(directory) as checkpoint:
        names = checkpoint.floats()
        broken = {name: row for name in names if (row := checkpoint.first_not_finite(name)) is not None}
    faults = [f"{name} has a number in row {row} that is none (NaN or infinite)" for name, row in broken.items()]
    return first_faults("weights", faults, f"every number of {len(names)} variables is finite")


def _as_floats(rows: Array) -> Array:
    """Rows of the table as the graph gives them, float32; bfloat16 is read as its bits."""
    if rows.dtype == np.uint16:
        return (rows.astype(np.uint32) << 16).view(np.float32)
    return rows.astype(np.float32)
