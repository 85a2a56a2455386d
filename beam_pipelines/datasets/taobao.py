"""Taobao UserBehavior (Alibaba, Tianchi): what about a million people did in nine days; no impressions.

Format, from the data set's page: `UserBehavior.csv` without a header line; user, item, category, behaviour type (`pv`,
`buy`, `cart`, `fav`), time in seconds. Rows outside 2017-11-25 to 2017-12-03 (Beijing time) are dropped and counted.

Made a click task: every row is a behaviour (`label` 1) with its type as a cross feature. A seeded 5 % of the `pv` rows
are targets (`target` 1), and each has a negative (`label` 0, `target` 1, no type) at the same moment: an item drawn in
proportion to how often it occurs in the whole file that this user never touched, before or after.

Size: the file is read once. Rows go to temporary files by a hash of their user (25 bytes a row, beside the output), and
the items are counted (24 bytes an item). Then one part after the other, with all rows of its users, is put in order of
user and time and gets its negatives. So memory holds the count of the items and one part, however long the file is,
but always all rows of a user: it is not bounded against one user with most of them.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines.datasets.delimited_text import Layout, keep, read_rows
from beam_pipelines.datasets.log_writer import RawLogs
from beam_pipelines.datasets.negatives import draw_unseen
from beam_pipelines.datasets.public_dataset import PublicDataset
from beam_pipelines.datasets.source_files import SourceFile
from twin_tf.core.dataclass_yaml import ConfigError

FIRST_SECOND = 1_511_539_200  # 2017-11-25 00:00 in Beijing
END_SECOND = 1_512_316_800  # 2017-12-04 00:00 in Beijing
OUTSIDE = "outside 2017-11-25 to 2017-12-03"
BEHAVIORS = ("pv", "buy", "cart", "fav")
TARGET_SHARE = 0.05
PART_BYTES = 64 << 20  # of the text; about 2 million rows
_ROUNDS = 200
_MERGE_ROWS = 1 << 22

_NAMES = ("user_id", "item_id", "category", "behavior", "timestamp")
LAYOUT = Layout(
    {"user_id": "int", "item_id": "int", "category": "int", "behavior": "string", "timestamp": "int"},
    _NAMES,
    {"behavior": BEHAVIORS},
    _NAMES,
)
_ROW = np.dtype([("user", "<i8"), ("item", "<i8"), ("time", "<i8"), ("behavior", "i1")])

Ids = npt.NDArray[np.int64]


def write_taobao(logs: RawLogs, files: Iterable[SourceFile], seed: int) -> None:
    """Writes events and items; `seed` chooses the targets and draws the negatives.

    Raises:
        ConfigError: no row of the nine days, or a target's user has touched every item there is.
    """
    items = ItemCounts()
    parts: list[Path] = []
    for file in files:
        parts = _spread(file, logs, items, logs.directory / "parts")
    items.merge()
    if not len(items.ids):
        raise ConfigError(f"UserBehavior.csv holds no row of {OUTSIDE.removeprefix('outside ')}")
    logs.write("items", pa.table({"item_id": items.ids, "category": items.categories}))
    upto = np.cumsum(items.counts)
    for number, part in enumerate(parts):
        rows = np.fromfile(part, _ROW)
        part.unlink()
        if len(rows):
            logs.write("events", _with_negatives(rows, items.ids, upto, np.random.default_rng([seed, number]), logs))
    (logs.directory / "parts").rmdir()


class ItemCounts:
    """How often each item occurs, and its category (the first that was seen); memory grows with the items alone."""

    def __init__(self) -> None:
        self.ids: Ids = np.zeros(0, np.int64)
        self.counts: Ids = np.zeros(0, np.int64)
        self.categories: Ids = np.zeros(0, np.int64)
        self._waiting: list[tuple[Ids, Ids]] = []
        self._rows = 0

    def add(self, items: Ids, categories: Ids) -> None:
        """Counts rows: their items and categories, `(rows,)` each."""
        self._waiting.append((items, categories))
        self._rows += len(items)
        if self._rows >= _MERGE_ROWS:
            self.merge()

    def merge(self) -> None:
        """Makes `ids` (sorted), `counts` and `categories` hold all rows that were added."""
        ids = np.concatenate([self.ids, *(items for items, _ in self._waiting)])
        counts = np.concatenate([self.counts, np.ones(self._rows, np.int64)])
        categories = np.concatenate([self.categories, *(categories for _, categories in self._waiting)])
        self._waiting, self._rows = [], 0
        order = np.argsort(ids, kind="stable")
        ids = ids[order]
        first = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]])) if len(ids) else order
        self.ids = ids[first]
        self.counts = np.add.reduceat(counts[order], first) if len(ids) else counts
        self.categories = categories[order[first]]


def _spread(file: SourceFile, logs: RawLogs, items: ItemCounts, folder: Path) -> list[Path]:
    """Writes the rows to parts by a hash of their user, and counts the items."""
    folder.mkdir()
    count = 1 + file.size // PART_BYTES
    parts = [folder / f"{number}.bin" for number in range(count)]
    streams: list[IO[bytes]] = []
    try:
        streams += [part.open("wb") for part in parts]
        for table in read_rows(file, LAYOUT, logs):
            time = table["timestamp"].to_numpy()
            inside = (time >= FIRST_SECOND) & (time < END_SECOND)
            logs.count(file.name, 0, Counter({OUTSIDE: int(np.count_nonzero(~inside))}))
            table = keep(table, inside)
            rows = np.empty(table.num_rows, _ROW)
            rows["user"], rows["item"], rows["time"] = (
                table[name].to_numpy() for name in ("user_id", "item_id", "timestamp")
            )
            rows["behavior"] = pc.index_in(table["behavior"], pa.array(BEHAVIORS)).to_numpy()
            items.add(table["item_id"].to_numpy(), table["category"].to_numpy())
            part_of = _part_of(rows["user"], count)
            order = np.argsort(part_of, kind="stable")
            edges = np.searchsorted(part_of[order], np.arange(count + 1))
            for number, stream in enumerate(streams):
                stream.write(rows[order[edges[number] : edges[number + 1]]].tobytes())
    finally:
        for stream in streams:
            stream.close()
    return parts


def _part_of(users: Ids, count: int) -> Ids:
    mixed = users.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: near ids go far apart
    return ((mixed >> np.uint64(32)) % np.uint64(count)).astype(np.int64)


def _with_negatives(
    rows: npt.NDArray[np.void], ids: Ids, upto: Ids, rng: np.random.Generator, logs: RawLogs
) -> pa.Table:
    """The events of one part: its rows, each with its moment's negative behind it where it is a target."""
    chosen = (rows["behavior"] == 0) & (rng.random(len(rows)) < TARGET_SHARE)
    targets = rows[chosen]
    _, user = np.unique(rows["user"], return_inverse=True)
    seen = np.unique(user * len(ids) + np.searchsorted(ids, rows["item"]))
    user = user[chosen]

    def draw(open_: Ids, _: int) -> Ids:
        return np.searchsorted(upto, rng.integers(0, upto[-1], len(open_)), side="right")

    drawn, open_ = draw_unseen(user, seen, len(ids), draw, _ROUNDS)
    for number in open_:  # touched nearly all that is popular: draw among the rest
        counts = np.diff(upto, prepend=0)
        first, end = np.searchsorted(seen, [user[number] * len(ids), (user[number] + 1) * len(ids)])
        counts[seen[first:end] - user[number] * len(ids)] = 0
        if not counts.any():
            raise ConfigError(f"no negative for user {targets['user'][number]}, who has touched every item there is")
        drawn[number] = np.searchsorted(np.cumsum(counts), rng.integers(0, counts.sum()), side="right")
    logs.drawn += len(targets)
    users = np.concatenate([rows["user"], targets["user"]])
    time = np.concatenate([rows["time"], targets["time"]])
    order = pa.array(np.lexsort((time, users)))
    names = pa.array(BEHAVIORS).take(pa.array(rows["behavior"]))
    return pa.table(
        {
            "user_id": users,
            "item_id": np.concatenate([rows["item"], ids[drawn]]),
            "timestamp": time,
            "label": np.repeat([1, 0], [len(rows), len(targets)]),
            "target": np.concatenate([chosen.astype(np.int64), np.ones(len(targets), np.int64)]),
            "behavior": pa.concat_arrays([names, pa.nulls(len(targets), pa.string())]),
        }
    ).take(order)


DATASETS = {
    "taobao": PublicDataset(
        "Taobao UserBehavior",
        write_taobao,
        "https://tianchi.aliyun.com/dataset/649",
        "UserBehavior.csv.zip",
        ("UserBehavior.csv",),
    )
}
