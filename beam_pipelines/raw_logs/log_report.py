"""What was found while a log was read: counts that merge, and the one sentence about what is wrong with it."""

import dataclasses
from collections.abc import Sequence

from beam_pipelines.raw_logs.list_columns import list_columns
from beam_pipelines.raw_logs.log_blocks import Block, Chunk
from beam_pipelines.raw_logs.plausible_times import TimeCounts, all_of_another_unit
from beam_pipelines.raw_logs.raw_columns import LogColumns
from twin_tf.core.dataclass_yaml import nearest
from twin_tf.features.event_times import UNIT_NAMES

_EXAMPLES = 3
_DAMAGED = 20


@dataclasses.dataclass
class LogReport:
    """Figures of a log, or of a part of it; `read` = `kept` + `filtered` + `dead`.

    Attributes:
        read: rows.
        kept: rows that go on.
        filtered: sound rows that nothing needs.
        dead: rows in `dead_letters/`.
        filled: column -> rows with a value.
        columns_seen: columns that files have, wanted or not.
        lines: (file number, chunk number) -> lines.
        examples: the first dead rows: (file number, chunk number, line in the chunk, reason, path).
        bytes: of the files.
        lost_bytes: those of them that could not be read.
        damaged: paths of broken files in name order, the first 20; a caller may warn of them when nothing fails.
        faults: sentences that each make the whole log useless, the first few.
        earliest: earliest time of a sound row.
        latest: latest time of a sound row.
        times: the sound rows by their times.
        kinds: path -> column -> as what the file writes it, see `column_kinds`.
    """

    read: int = 0
    kept: int = 0
    filtered: int = 0
    dead: int = 0
    filled: dict[str, int] = dataclasses.field(default_factory=dict)
    columns_seen: set[str] = dataclasses.field(default_factory=set)
    lines: dict[tuple[int, int], int] = dataclasses.field(default_factory=dict)
    examples: list[tuple[int, int, int, str, str]] = dataclasses.field(default_factory=list)
    bytes: int = 0
    lost_bytes: int = 0
    damaged: list[str] = dataclasses.field(default_factory=list)
    faults: list[str] = dataclasses.field(default_factory=list)
    earliest: int | None = None
    latest: int | None = None
    times: TimeCounts = dataclasses.field(default_factory=TimeCounts)
    kinds: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)

    def add_block(self, chunk: Chunk, block: Block) -> None:
        """Counts a block, except what becomes of its sound rows."""
        self.read += block.read
        self.dead += len(block.dead)
        self.columns_seen.update(block.columns_seen)
        for name in block.table.column_names:
            self.filled[name] = self.filled.get(name, 0) + len(block.table) - block.table[name].null_count
        for name, rows in block.filled.items():
            self.filled[name] = self.filled.get(name, 0) + rows
        place = (chunk.file.number, chunk.number)
        self.lines[place] = self.lines.get(place, 0) + block.lines
        found = [(*place, dead.line, dead.reason, chunk.file.path) for dead in block.dead[:_EXAMPLES]]
        self.examples = sorted(self.examples + found)[:_EXAMPLES]
        self.bytes += block.bytes
        self.lost_bytes += block.lost_bytes
        self._add_rest([chunk.file.path] * block.damaged, [block.fault] * bool(block.fault), block)
        if block.times is not None:
            self.times = TimeCounts.merge([self.times, block.times])
        if block.read:
            self._add_kinds({chunk.file.path: dict(block.kinds)})

    @classmethod
    def merge(cls, parts: Sequence["LogReport"]) -> "LogReport":
        """The report of all parts together."""
        total = cls()
        for name in ("read", "kept", "filtered", "dead", "bytes", "lost_bytes"):
            setattr(total, name, sum(getattr(part, name) for part in parts))
        for part in parts:
            total.columns_seen |= part.columns_seen
            total.lines.update(part.lines)
            total._add_rest(part.damaged, part.faults, part)
            total._add_kinds(part.kinds)
            for name, rows in part.filled.items():
                total.filled[name] = total.filled.get(name, 0) + rows
        total.times = TimeCounts.merge([part.times for part in parts])
        total.examples = sorted(example for part in parts for example in part.examples)[:_EXAMPLES]
        return total

    def _add_rest(self, damaged: list[str], faults: list[str], times: "Block | LogReport") -> None:
        self.damaged = sorted({*self.damaged, *damaged})[:_DAMAGED]
        self.faults = sorted({*self.faults, *faults})[:_EXAMPLES]
        self.earliest = min((t for t in (self.earliest, times.earliest) if t is not None), default=None)
        self.latest = max((t for t in (self.latest, times.latest) if t is not None), default=None)

    def _add_kinds(self, kinds: dict[str, dict[str, int]]) -> None:
        for path, seen in kinds.items():
            mine = self.kinds.setdefault(path, {})
            for name, bits in seen.items():
                mine[name] = mine.get(name, 0) | bits

    def line_of(self, file: int, chunk: int, line: int) -> int:
        """The line in the file (from 1) of a line in a chunk (from 0)."""
        return 1 + line + sum(self.lines.get((file, earlier), 0) for earlier in range(chunk))

    def fault(self, columns: LogColumns, max_dead_share: float, continues: bool = False) -> str | None:
        """What makes the whole log useless, in one sentence, or None.

        Args:
            columns: what its rows must hold.
            max_dead_share: malformed rows beyond this share.
            continues: an earlier run knew items, users and values: a day without news of them is sound.
        """
        log = f"the {columns.name} log"
        if self.faults:
            return f"{log} cannot be used: {self.faults[0]}"
        if not self.read:
            return None if continues and columns.name != "events" else f"{log} is empty: its files hold no rows"
        missing = [name for name in (*list_columns(columns), *columns.types) if not self.filled.get(name)]
        unseen = [name for name in missing if name not in self.columns_seen]
        if unseen and self.dead < self.read and not continues:
            return f"{log} has no value in column {unseen[0]!r} in any row{nearest(unseen[0], self.columns_seen)}"
        if self.too_many_dead(max_dead_share) or self.lost_bytes > max_dead_share * max(self.bytes, 1):
            if unseen and self.columns_seen:
                return f"{log} has no column {unseen[0]!r}{nearest(unseen[0], self.columns_seen)}"
            return self._too_much(log, max_dead_share)
        return self._fault_of_times(columns, log) if columns.time else None

    def too_many_dead(self, max_dead_share: float) -> bool:
        """Whether more rows than this share are malformed."""
        return self.dead > max_dead_share * self.read

    def _fault_of_times(self, columns: LogColumns, log: str) -> str | None:
        time = columns.time_column
        unit = all_of_another_unit(time, self.earliest or 0, self.latest or 0)
        if unit is not None:
            return (
                f"every time of {log} ({self.earliest} to {self.latest}) would be in the first weeks of 1970 as "
                f"{UNIT_NAMES[time.unit]}: the log seems to be in {UNIT_NAMES[unit]}; set schema.events.time.unit to "
                f"{unit}"
            )
        return self.times.fault(time, log) if columns.not_before is None else None

    def _too_much(self, log: str, max_dead_share: float) -> str:
        what = f"{self.dead} of {self.read} rows of {log} are malformed"
        if not self.too_many_dead(max_dead_share):
            what = f"{self.lost_bytes} of {self.bytes} bytes of {log} are in damaged files and cannot be read"
        shown = "; ".join(
            f"{path} line {self.line_of(file, chunk, line)}: {reason}"
            for file, chunk, line, reason, path in self.examples
        )
        files = ""
        if self.damaged:
            more = " and more" if len(self.damaged) > _EXAMPLES else ""
            files = f"; damaged: {', '.join(self.damaged[:_EXAMPLES])}{more}"
        return f"{what}, more than the allowed share of {max_dead_share:g} (max_dead_share); first: {shown}{files}"
