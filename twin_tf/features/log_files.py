"""The section of the schema that says how the logs' CSV files are written; Parquet and JSON Lines say it themselves."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from twin_tf.core.dataclass_yaml import ConfigError, nearest

CsvEncoding = Literal["utf-8", "latin-1", "cp1252", "utf-16"]

_LOGS = ("events", "items", "users")


@dataclasses.dataclass(frozen=True)
class CsvFiles:
    """How `.csv` and `.tsv` files are written, of all logs alike.

    Attributes:
        separator: what stands between fields, one character; in files called `.tsv` it is always a tab.
        columns: log (`events`, `items`, `users`) -> the names of its columns in order, of files without a header line;
            the files of a log that is not named here begin with a header line.
        quote: what may stand around a field, one character, doubled inside it; empty: nothing is quoted, and every
            quote is a part of its field.
        encoding: of the text.
        line_breaks: quoted fields may hold line breaks. Each file is then read from its start by one worker, where it
            is cut into parts otherwise.
    """

    separator: str = ","
    columns: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    quote: str = '"'
    encoding: CsvEncoding = "utf-8"
    line_breaks: bool = False

    def __post_init__(self) -> None:
        if not _one_mark(self.separator):
            raise ConfigError(
                f"separator must be one ASCII character that is no letter, digit or line end, not {self.separator!r}"
            )
        if self.quote and (not _one_mark(self.quote) or self.quote == self.separator):
            raise ConfigError(
                f"quote must be one ASCII character that is no letter, digit or separator, or '' where nothing is "
                f"quoted, not {self.quote!r}"
            )
        if self.line_breaks and not self.quote:
            raise ConfigError("line_breaks needs a quote: without one nothing tells a line break from the end of a row")
        for log, names in self.columns.items():
            if log not in _LOGS:
                raise ConfigError(f"columns names {log!r}, which is no log{nearest(log, _LOGS)}")
            twice = [name for name in names if names.count(name) > 1]
            if twice or not names:
                raise ConfigError(f"columns.{log} {f'names {twice[0]!r} twice' if twice else 'names no column'}")

    def of_log(self, log: str, tabs: bool) -> "CsvDialect":
        """How the files of one log are written; `tabs`: files that are called `.tsv`."""
        separator = "\t" if tabs else self.separator
        return CsvDialect(separator, self.columns.get(log, ()), self.quote, self.encoding, self.line_breaks)


@dataclasses.dataclass(frozen=True)
class CsvDialect:
    """How some files are written: the fields of `CsvFiles`, with the columns of one log (none: a header line)."""

    separator: str = ","
    columns: tuple[str, ...] = ()
    quote: str = '"'
    encoding: CsvEncoding = "utf-8"
    line_breaks: bool = False

    @property
    def whole(self) -> bool:
        """Whether a file can only be read from its start: nothing else tells where a line or a row begins."""
        return self.line_breaks or self.encoding == "utf-16"


def _one_mark(text: str) -> bool:
    return len(text) == 1 and text.isascii() and not text.isalnum() and text not in "\r\n\0"
