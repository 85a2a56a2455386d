"""How versions lie under a base path: one directory a version, whose name is its number.

<base_path>/1700000000/       a version; a server loads the newest
            .rolled-back-N/   hidden by `rollback`, or because the server refused it; kept for a look at it
            .rolled-back.json which runs were rolled back
            .incoming-PID/    being written; .outgoing-N/ being removed; a killed publisher's are swept by the next
            .publish.lock     held by whoever publishes

A hidden name that is taken gets a suffix, `-1` and so on. Whatever else lies there is foreign: it is named to whoever
publishes or serves, and neither followed nor changed.
"""

import dataclasses
import os
import re
from pathlib import Path

LOCK = ".publish.lock"
ROLLED_BACK = ".rolled-back.json"
INCOMING, OUTGOING, HIDDEN = ".incoming-", ".outgoing-", ".rolled-back-"

_DIGITS = 18
"""The longest number of a version: TensorFlow Serving counts up to 2^63 - 1, so that there is room above each."""
_SERVERS_LARGEST = 2**63 - 1
CLOCK_ERROR_S = 86_400
"""How far ahead of the clock a number may be before it is called one of a clock that ran ahead."""
_NAMED = 5
"""How many foreign entries a warning names."""

_PARTS = {"saved_model.pb", "variables", "assets.extra"}
"""What tells a version, even one that lost a file, from somebody's directory of the year 2024."""

_OUR_FILES = re.compile(rf"{re.escape(LOCK)}(-\d+)?|{re.escape(ROLLED_BACK)}|\.{re.escape(ROLLED_BACK)}\.\d+\.tmp")
_OUR_DIRECTORIES = re.compile(r"\.(incoming|outgoing)-\d+(-\d+)?")
_HIDDEN_NAME = re.compile(rf"{re.escape(HIDDEN)}(\d{{1,{_DIGITS}}})(-\d+)?")


@dataclasses.dataclass(frozen=True)
class Layout:
    """What lies under a base path.

    Attributes:
        versions: their numbers, rising.
        hidden: (number, name) of the hidden versions, rising.
        leftovers: names of what a publisher that is gone left.
        foreign: name -> why it is none of these.
        read_by_server: number -> foreign name that TensorFlow Serving takes for a version of that number.
    """

    versions: list[int]
    hidden: list[tuple[int, str]]
    leftovers: list[str]
    foreign: dict[str, str]
    read_by_server: dict[int, str]

    def next_number(self, now: int) -> int:
        """A number above whatever a server may take for a version, the seconds `now` if that is above all of them.

        Foreign numbers that leave no room above them are passed over. A hidden version counts unless a clock that ran
        ahead gave it its number; no hidden number is given again.
        """
        taken = [*self.versions, *(number for number in self.read_by_server if number < 10**_DIGITS)]
        taken += [number for number, _ in self.hidden if number <= now + CLOCK_ERROR_S]
        number = max([now, *(number + 1 for number in taken)])
        while number in (hidden for hidden, _ in self.hidden):
            number += 1
        return number

    def foreign_sentence(self) -> str:
        """What is foreign, with what it does to a server, one clause; empty if nothing is."""
        if not self.foreign:
            return ""
        named = [f"{name} ({why})" for name, why in list(self.foreign.items())[:_NAMED]]
        more = f" and {len(self.foreign) - _NAMED} more" if len(self.foreign) > _NAMED else ""
        newest = max(self.read_by_server, default=0)
        shadowed = bool(self.read_by_server) and newest > max(self.versions, default=0)
        name = self.read_by_server.get(newest, "")
        danger = f"; TensorFlow Serving takes {name} for the newest version, so move it away" if shadowed else ""
        return f"no version of ours and left alone: {', '.join(named)}{more}{danger}"


def look(base_path: Path) -> Layout:
    """Says of every entry of a base path what it is; follows no link and reads no file.

    Raises:
        OSError: the base path cannot be listed.
    """
    found = Layout([], [], [], {}, {})
    with os.scandir(base_path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            _sort_in(entry, found)
    found.versions.sort()
    found.hidden.sort()
    return found


def version_numbers(base_path: Path) -> list[int]:
    """The versions of a base path, rising: directories with a model, named by a number without leading zeros.

    Raises:
        OSError: the base path cannot be listed.
    """
    return look(base_path).versions


def free_name(base_path: Path, name: str) -> Path:
    """A path for an entry of ours that nothing lies at: of this name, or with the first free suffix."""
    path, suffix = base_path / name, 0
    while os.path.lexists(path):
        suffix += 1
        path = base_path / f"{name}-{suffix}"
    return path


def _sort_in(entry: "os.DirEntry[str]", found: Layout) -> None:
    directory, file = entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False)
    hidden = _HIDDEN_NAME.fullmatch(entry.name)
    if hidden and directory:
        found.hidden.append((int(hidden[1]), entry.name))
    elif _OUR_DIRECTORIES.fullmatch(entry.name) and directory:
        found.leftovers.append(entry.name)
    elif _OUR_FILES.fullmatch(entry.name) and file:
        if entry.name.endswith(".tmp"):
            found.leftovers.append(entry.name)
    else:
        try:
            why = _why_no_version(entry, directory)
        except FileNotFoundError:  # retired since it was listed
            return
        if not why:
            found.versions.append(int(entry.name))
            return
        found.foreign[entry.name] = why
        if re.fullmatch(r"\s*[0-9]+\s*", entry.name) and int(entry.name) <= _SERVERS_LARGEST:
            found.read_by_server[int(entry.name)] = entry.name


def _why_no_version(entry: "os.DirEntry[str]", directory: bool) -> str:
    """Why an entry is no version; empty if it is one."""
    if entry.is_symlink():
        return "a link"
    if not directory:
        return "a file"
    if not re.fullmatch(r"[0-9]+", entry.name):
        return "not named by a number"
    if entry.name != str(int(entry.name)):
        return "zeros before its number"
    if len(entry.name) > _DIGITS:
        return f"more than {_DIGITS} digits"
    try:
        names = {inside.name for inside in os.scandir(entry)}
    except PermissionError as error:
        return f"cannot be read: {error.strerror}"
    return "" if names & _PARTS else "no model in it" if names else "empty"
