"""What clustering did to histories: figures of shards, merged, and the page that shows them."""

import dataclasses
import importlib.util
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from beam_pipelines.io.record_writer import read_file, write_file
from twin_tf.core.markdown import plain, table
from twin_tf.records import format as keys
from twin_tf.records.cluster_source import ClusterSource
from twin_tf.records.packing import unpack

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT, PAGE, FIGURE = "clusters.json", "report.md", "compression.png"

_EDGES = (0, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)

_COUNTED = ("behaviours", "entries")

Ints = npt.NDArray[np.int64]
Plain = Mapping[str, Any]


@dataclasses.dataclass
class ClusterStatistics:
    """What became of the histories of some records.

    Attributes:
        behaviours: that the entries stand for, by class of history length (`_EDGES`).
        entries: likewise.
        records: likewise.
        sizes: how many entries stand for 0, 1, 2, ... behaviours.
    """

    behaviours: Ints = dataclasses.field(default_factory=lambda: np.zeros(len(_EDGES), np.int64))
    entries: Ints = dataclasses.field(default_factory=lambda: np.zeros(len(_EDGES), np.int64))
    records: Ints = dataclasses.field(default_factory=lambda: np.zeros(len(_EDGES), np.int64))
    sizes: Ints = dataclasses.field(default_factory=lambda: np.zeros(1, np.int64))

    def add(self, record: Mapping[str, int | bytes], entries: int, behaviours: int, width: int) -> None:
        """Adds a record that holds so many entries for so many behaviours; `width` is that of `history/count`."""
        length = int(np.searchsorted(_EDGES, behaviours, side="right")) - 1
        self.behaviours[length] += behaviours
        self.entries[length] += entries
        self.records[length] += 1
        counts = record[keys.HISTORY_COUNT]
        assert isinstance(counts, bytes)
        self.sizes = _sum(self.sizes, np.bincount(unpack(counts, width), minlength=1))

    @classmethod
    def merge(cls, parts: Sequence["ClusterStatistics"]) -> "ClusterStatistics":
        """One of many."""
        whole = cls()
        for part in parts:
            whole.behaviours += part.behaviours
            whole.entries += part.entries
            whole.records += part.records
            whole.sizes = _sum(whole.sizes, part.sizes)
        return whole

    def to_plain(self) -> dict[str, object]:
        """For `clusters.json`."""
        lengths = [
            {"from": low, "records": int(records), "behaviours": int(behaviours), "entries": int(entries)}
            for low, records, behaviours, entries in zip(
                _EDGES, self.records, self.behaviours, self.entries, strict=True
            )
            if records
        ]
        return {
            "records": int(self.records.sum()),
            "behaviours": int(self.behaviours.sum()),
            "entries": int(self.entries.sum()),
            "largest": len(self.sizes) - 1,
            "sizes": self.sizes.tolist(),
            "by_history_length": lengths,
        }


def _sum(one: Ints, other: Ints) -> Ints:
    wide = np.zeros(max(len(one), len(other)), np.int64)
    wide[: len(one)] += one
    wide[: len(other)] += other
    return wide


def write_figures(root: str, source: ClusterSource, splits: Mapping[str, ClusterStatistics]) -> dict[str, str]:
    """Writes `clusters.json`; returns its name with its sha256."""
    content = {"source": dataclasses.asdict(source), "splits": {n: part.to_plain() for n, part in splits.items()}}
    return {REPORT: write_file(root, REPORT, (json.dumps(content, indent=1) + "\n").encode())}


def write_page(root: str, schema: str) -> None:
    """Writes `report.md` and its figure beside a `clusters.json`; without matplotlib the page alone."""
    content = json.loads(read_file(root, REPORT) or "{}")
    figure = compression(content["splits"]["histories"]) if importlib.util.find_spec("matplotlib") else None
    if figure is not None:
        from twin_tf.core.plots import png

        write_file(root, FIGURE, png(figure))
    write_file(root, PAGE, _page(schema, content["source"], content["splits"], figure is not None).encode())


def _page(schema: str, source: Plain, splits: Mapping[str, Plain], with_figure: bool) -> str:
    settings = source["settings"]
    lines = [f"# Clustered histories: {plain(schema)}", ""]
    if source["items_without_embedding"]:
        lines += [
            f"**{source['items_without_embedding']:,} items have no usable embedding** (zero or not finite): "
            "their behaviours count as equal to each other.",
            "",
        ]
    named = settings["completion"]
    groups = f"{settings['groups']} groups by {plain(named)}" if named else "one group (no completion ratio is named)"
    rows = [
        (name, *(f"{part[key]:,}" for key in ("records", "behaviours", "entries")), _share(part))
        for name, part in splits.items()
    ]
    lines += [
        f"Item embeddings of the run of version {source['weights_version']}, {plain(source['checkpoint'])}. Clusters "
        f"of at most {settings['gamma']}, delta(V) = max(2, floor(size^{settings['exponent']})), {groups}; the latest "
        f"{settings['recent']} behaviours before each clustering as they are; {len(source['moments']):,} moments of "
        "clustering.",
        "",
        *table(("split", "records", "behaviours", "entries", "entries by behaviours"), rows),
        "",
    ]
    if with_figure:
        lines += [f"![Entries by behaviours, and sizes of clusters]({FIGURE})", ""]
    if splits["histories"]["entries"] == splits["histories"]["behaviours"]:
        lines += ["**Nothing was compressed:** in the latest histories every entry stands for one behaviour.", ""]
    rows = [
        (f"{part['from']:,} or more", f"{part['records']:,}", *(f"{part[n] / part['records']:,.0f}" for n in _COUNTED),
         _share(part))
        for part in splits["histories"]["by_history_length"]
    ]  # fmt: skip
    head = ("behaviours of a user", "users", "behaviours, mean", "entries, mean", "entries by behaviours")
    return "\n".join([*lines, "The latest histories by their length:", "", *table(head, rows), ""])


def _share(part: Plain) -> str:
    return f"{part['entries'] / part['behaviours']:.1%}" if part["behaviours"] else "-"


def compression(latest: Plain) -> "Figure | None":
    """Compression by history length, and how behaviours spread over the sizes of clusters.

    Args:
        latest: of the latest histories, as `ClusterStatistics.to_plain` makes it.

    Returns:
        The figure; None where no entry stands for more than one behaviour.
    """
    if latest["entries"] == latest["behaviours"]:
        return None
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    from twin_tf.core.plots import COLOURS

    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    some = [part for part in latest["by_history_length"] if part["behaviours"]]
    share = [part["entries"] / part["behaviours"] for part in some]
    bars = left.bar(range(len(some)), share, color=COLOURS[0])
    left.bar_label(bars, [f"{one:.0%}" for one in share], padding=2)
    left.set_xticks(range(len(some)), [f"{part['from']:,}+" for part in some], rotation=30)
    left.set(xlabel="behaviours of a user", ylim=(0, 1.1), title="Entries as a share of the behaviours", yticks=[])
    sizes = np.array(latest["sizes"])
    held = sizes * np.arange(len(sizes))
    right.bar(range(1, len(held)), held[1:] / held.sum(), color=COLOURS[1])
    right.yaxis.set_major_formatter(PercentFormatter(1.0, 0))
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set(xlabel="size of the cluster (1: as it is)", title="Share of the behaviours by size of their cluster")
    for part in (left, right):
        part.spines[["top", "right"]].set_visible(False)
    return figure
