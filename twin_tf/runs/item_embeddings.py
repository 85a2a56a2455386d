"""Frozen item embeddings for the searches that need them (SIM Soft, SIM Cluster), from the training period alone.

    twin-tf item-embeddings --prepared prepared --output embeddings

factorises the matrix of users and items (scikit-learn's TF-IDF weights and truncated SVD): items that the same users
took are near. All are of length 1: a factor's length says how often its item was taken, and a search by inner products
would retrieve best sellers. No behaviour after the training window is looked at; those within it are, clicked
training targets too.

    <directory>/embeddings.npy   float32 (items, width) by item row, unit vectors; zero for items that nobody took
                manifest.json    what they were made of
                _SUCCESS         written last
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twin_tf.core.dataclass_yaml import ConfigError, build
from twin_tf.core.files import sha256_of_file
from twin_tf.core.mirrors import at_hand
from twin_tf.core.new_directory import check_new, new_directory
from twin_tf.core.progress import progress_bar
from twin_tf.core.yaml_text import parse_json
from twin_tf.features.schema import FIRST_KNOWN
from twin_tf.records.corrupt_records import corrupt_records_named
from twin_tf.records.format import MANIFEST, SUCCESS, Manifest
from twin_tf.records.input_pipeline import load_item_ids, make_dataset

Vectors = npt.NDArray[np.float32]

EMBEDDINGS = "embeddings.npy"
BATCH = 64  # users read at a time


@dataclasses.dataclass(frozen=True)
class EmbeddingManifest:
    """The content of `manifest.json`.

    Attributes:
        items: rows.
        width: of an embedding.
        seed: of the factorisation.
        behaviours: that were looked at.
        trained_until: no behaviour was later than this moment, in the unit of the logs.
        ids_sha256: of the items' raw ids, int64 by row.
        embeddings_sha256: of `embeddings.npy`.
    """

    items: int
    width: int
    seed: int
    behaviours: int
    trained_until: int
    ids_sha256: str
    embeddings_sha256: str


def make_item_embeddings(
    prepared: str | Path, output: str | Path, width: int = 64, seed: int = 1, *, verify: bool = True
) -> dict[str, Any]:
    """Factorises the training period's behaviours.

    Args:
        prepared: finished prepared data.
        output: a directory that does not exist yet, or is empty.
        width: of an embedding; less where there are fewer users or items.
        seed: of the randomised factorisation.
        verify: compare the files that hold no records with their SHA-256; records are always checked.

    Returns:
        The content of `manifest.json`.

    Raises:
        ConfigError: unfinished data, an output with something in it, no behaviour in the training period, or clustered
            histories: a cluster dated within it may have later members; or data that are not split by time.
    """
    if width < 1:
        raise ConfigError(f"width must be at least 1, not {width}")
    check_new(output)
    manifest = Manifest.load(prepared, verify=verify)
    if manifest.schema.history.clustered:
        raise ConfigError(
            f"{prepared} has clustered histories, and a cluster may reach past the training period; make the "
            "embeddings of the data before clustering: their items are the same"
        )
    if manifest.split.by != "time":
        raise ConfigError(
            f"{prepared} is split by {manifest.split.by}, and item embeddings are made of what lies before one moment; "
            "prepare the data with split.by: time"
        )
    ids = load_item_ids(manifest.directory)
    with corrupt_records_named(manifest):
        user, item = _behaviours(manifest)
    if not len(item):
        raise ConfigError(f"{prepared} has no behaviour before its training window ends; check the split times")
    vectors = _factorise(user, item, len(ids), width, seed)
    with new_directory(output) as building:
        np.save(building / EMBEDDINGS, vectors, allow_pickle=False)
        digest = sha256_of_file(building / EMBEDDINGS)
        made = EmbeddingManifest(
            *(len(ids), vectors.shape[1], seed, len(item), manifest.split.train_until),
            *(hashlib.sha256(ids.tobytes()).hexdigest(), digest),
        )
        plain = dataclasses.asdict(made)
        (building / MANIFEST).write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
        (building / SUCCESS).write_bytes(b"")
    return plain


def load_item_embeddings(directory: str | Path, prepared: str | Path, trained_until: int) -> Vectors:
    """Reads what `make_item_embeddings` wrote, for a catalogue that begins with the same items.

    Args:
        directory: the embeddings.
        prepared: prepared data or a run, whose items are wanted.
        trained_until: when their training window ends; 0 if nobody knows.

    Returns:
        float32 `(items, width)`; zero for items that came later.

    Raises:
        ConfigError: unfinished or damaged embeddings, of other items, or of behaviours after the training window.
    """
    root = at_hand(directory)
    if not (root / SUCCESS).is_file():
        raise ConfigError(f"{directory} holds no finished item embeddings; run `twin-tf item-embeddings` first")
    plain = parse_json((root / MANIFEST).read_bytes(), str(root / MANIFEST))
    made = build(EmbeddingManifest, plain, str(root / MANIFEST))
    content = (root / EMBEDDINGS).read_bytes()
    if hashlib.sha256(content).hexdigest() != made.embeddings_sha256:
        raise ConfigError(f"{root / EMBEDDINGS} is damaged: its SHA-256 is another; make the embeddings again")
    ids = load_item_ids(prepared)
    if hashlib.sha256(ids[: made.items].tobytes()).hexdigest() != made.ids_sha256:
        raise ConfigError(f"{directory} holds embeddings of other items than {prepared} has; make them again")
    if trained_until and made.trained_until > trained_until:
        raise ConfigError(
            f"{directory} looked at behaviours until {made.trained_until}, but training ends at {trained_until}: "
            "the embeddings know what validation is to show; make them of these data"
        )
    vectors = np.load(root / EMBEDDINGS, allow_pickle=False)
    return np.concatenate([vectors, np.zeros((len(ids) - len(vectors), vectors.shape[1]), np.float32)])


def _behaviours(manifest: Manifest) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """User number and item row of every behaviour of the latest histories that is in the training window."""
    users, items, known = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
    total = sum(shard.records for shard in manifest.shards("histories"))
    with progress_bar("read histories", total) as advance:
        for batch in make_dataset(manifest, "histories", manifest.schema.history.max_length, BATCH).as_numpy_iterator():
            item, time, length = batch.history.item, batch.history.time, batch.history.length
            early = (np.arange(item.shape[1]) < length[:, None]) & (time < manifest.split.train_until)
            early &= item >= FIRST_KNOWN
            user, column = np.nonzero(early)
            users.append(known + user)
            items.append(item[user, column].astype(np.int64))
            known += len(length)
            advance(len(length), "")
    return np.concatenate(users), np.concatenate(items)


def _factorise(user: npt.NDArray[np.int64], item: npt.NDArray[np.int64], items: int, width: int, seed: int) -> Vectors:
    from scipy.sparse import csr_matrix
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.preprocessing import normalize

    counts = csr_matrix((np.ones(len(item)), (user, item)), shape=(int(user.max()) + 1, items))
    counts.sum_duplicates()
    weighted = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    components = max(1, min(width, min(weighted.shape) - 1))
    svd = TruncatedSVD(components, n_iter=7, random_state=seed)
    svd.fit(weighted)
    vectors: Vectors = normalize((svd.components_ * np.sqrt(svd.singular_values_)[:, None]).T).astype(np.float32)
    vectors[np.bincount(item, minlength=items) == 0] = 0  # what nobody took is rounding noise
    return vectors
