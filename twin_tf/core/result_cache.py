"""Results of long work, kept in a working directory and tied to what made them.

A result is found again only by the same settings in full, the same data and the same code. What other settings, data
or code made lies under another name: it is never taken for the present one, and `unused` shows it.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twin_tf.core.code_version import commit
from twin_tf.core.files import JsonDict, read_json, write_json
from twin_tf.core.markdown import table

KEY_DIGITS = 10


class Provenance(NamedTuple):
    """What made a result.

    Attributes:
        settings: all of them, defaults written out, so that a new default is another provenance.
        data: a digest of what was read.
        code: of `code_version.code_digest`.
    """

    settings: Mapping[str, Any]
    data: str
    code: str

    @property
    def key(self) -> str:
        """Ten hexadecimal digits that change with any part."""
        text = json.dumps([self.settings, self.data, self.code], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]


class Unused(NamedTuple):
    """A result on disk that nobody has asked for.

    Attributes:
        name: of the result.
        why: what differs from the present one: "other code", "other settings", "other data", or several.
        commit: of the code that made it.
        result: itself.
    """

    name: str
    why: str
    commit: str
    result: JsonDict


class ResultCache:
    """The results in one directory.

    Args:
        directory: holds `<name>-<key>.json` each; made by the first result.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._commit = commit()
        self._asked: dict[str, Provenance] = {}

    def path(self, name: str, provenance: Provenance) -> Path:
        """Where a result lies, or would."""
        return self._directory / f"{name}-{provenance.key}.json"

    def read(self, name: str, provenance: Provenance) -> JsonDict | None:
        """A result; None if there is none, or if its file is damaged."""
        self._asked[name] = provenance
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            content = read_json(self.path(name, provenance))
            return {**content["result"], "commit": content["made_by"]["commit"]}
        return None

    def write(self, name: str, provenance: Provenance, result: JsonDict) -> JsonDict:
        """Keeps a result; returns what `read` will."""
        self._asked[name] = provenance
        made_by = {**provenance._asdict(), "commit": self._commit}
        write_json(self.path(name, provenance), {"made_by": made_by, "result": result})
        return {**result, "commit": self._commit}

    def unused(self) -> list[Unused]:
        """The results of the names that were asked for, made by anything else; without those that cannot be read."""
        found = []
        for name, provenance in list(self._asked.items()):  # other threads may ask meanwhile
            mine = self.path(name, provenance)
            for path in sorted(self._directory.glob(f"{name}-{'[0-9a-f]' * KEY_DIGITS}.json")):
                if path == mine:
                    continue
                with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                    content = read_json(path)
                    made_by = content["made_by"]
                    other = [f"other {part}" for part, now in _comparable(provenance).items() if made_by[part] != now]
                    found.append(Unused(name, ", ".join(other), made_by["commit"], content["result"]))
        return found


def unused_section(unused: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines on results that lie in the working directory and were made by other code, settings or data."""
    if not unused:
        return []
    rows = [
        (
            found["name"],
            found["why"],
            found["commit"],
            f"{found['result']['auc']:.4f}",
            f"{found['result']['gauc']:.4f}",
        )
        for found in unused
    ]
    return [
        "## Earlier results that are not used",
        "",
        "They lie in the same directory but were made by other code, settings or data. No table above holds them; "
        "`--fresh` removes them.",
        "",
        *table(("result", "made by", "commit", "AUC", "GAUC"), rows),
        "",
    ]


def _comparable(provenance: Provenance) -> JsonDict:
    """As JSON holds it."""
    plain: JsonDict = json.loads(json.dumps(provenance._asdict()))
    return {name: plain[name] for name in ("code", "settings", "data")}
