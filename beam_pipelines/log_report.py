"""What was found while a log was read: counts that merge, and the one sentence about what is wrong with it."""

import dataclasses
from collections.abc import Sequence

from beam_pipelines.raw_columns import LogColumns
from beam_pipelines.read_logs import Block, Chunk
from twin_tf.strict_yaml import nearest

_EXAMPLES = 3


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
    """

    read: int = 0
    kept: int = 0
    filtered: int = 0
    dead: int = 0
    filled: dict[str, int] = dataclasses.field(default_factory=dict)
    columns_seen: set[str] = dataclasses.field(default_factory=set)
    lines: dict[tuple[int, int], int] = dataclasses.field(default_factory=dict)
    examples: list[tuple[int, int, int, str, str]] = dataclasses.field(default_factory=list)
    damaged: list[str] = dataclasses.field(default_factory=list)

    def add_block(self, chunk: Chunk, block: Block) -> None:
        """Counts a block, except what becomes of its sound rows."""
        self.read += block.read
        self.dead += len(block.dead)
        self.columns_seen.update(block.columns_seen)
        for name in block.table.column_names:
            self.filled[name] = self.filled.get(name, 0) + len(block.table) - block.table[name].null_count
        place = (chunk.file.number, chunk.number)
        self.lines[place] = self.lines.get(place, 0) + block.lines
        found = [(*place, dead.line, dead.reason, chunk.file.path) for dead in block.dead[:_EXAMPLES]]
        self.examples = sorted(self.examples + found)[:_EXAMPLES]

    @classmethod
    def merge(cls, parts: Sequence["LogReport"]) -> "LogReport":
        """The report of all parts together."""
        total = cls()
        for name in ("read", "kept", "filtered", "dead"):
            setattr(total, name, sum(getattr(part, name) for part in parts))
        for part in parts:
            total.columns_seen |= part.columns_seen
            total.lines.update(part.lines)
            for name, rows in part.filled.items():
                total.filled[name] = total.filled.get(name, 0) + rows
        total.examples = sorted(example for part in parts for example in part.examples)[:_EXAMPLES]
        return total

    def line_of(self, file: int, chunk: int, line: int) -> int:
        """The line in the file (from 1) of a line in a chunk (from 0)."""
        return 1 + line + sum(self.lines.get((file, earlier), 0) for earlier in range(chunk))

    def fault(self, columns: LogColumns, max_dead_share: float) -> str | None:
        """What makes the whole log useless, in one sentence, or None."""
        log = f"the {columns.name} log"
        if not self.read:
            return f"{log} is empty: its files hold no rows"
        missing = [name for name in columns.types if not self.filled.get(name)]
        if missing and self.dead < self.read:
            return f"{log} has no value in column {missing[0]!r} in any row{nearest(missing[0], self.columns_seen)}"
        absent = [name for name in columns.types if name not in self.columns_seen]
        if self.dead > max_dead_share * self.read:
            if absent:
                return f"{log} has no column {absent[0]!r}{nearest(absent[0], self.columns_seen)}"
            shown = "; ".join(
                f"{path} line {self.line_of(file, chunk, line)}: {reason}"
                for file, chunk, line, reason, path in self.examples
            )
            return (
                f"{self.dead} of {self.read} rows of {log} are malformed, more than the allowed share of "
                f"{max_dead_share:g} (--max_dead_share); first: {shown}"
            )
        return None
