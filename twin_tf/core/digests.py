"""Files against the SHA-256 that was noted when they were written: checked once, before anybody reads them.

The one rule for prepared data and for runs. What was written before digests were noted cannot be checked; it is read
all the same, with one warning.
"""

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path

from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.files import sha256_of_file
from twin_tf.core.mirrors import place_of


class DamagedFileError(ConfigError):
    """A file is not what was written; the message is one sentence that names it."""


class UncheckedFilesWarning(UserWarning):
    """Files are read whose digests nobody noted."""


def check_files(root: Path, digests: Mapping[str, str], listed_in: str, advice: str) -> None:
    """Reads every file whole; memory does not grow with them.

    Args:
        root: where they lie.
        digests: path below `root`, with forward slashes -> SHA-256 in hexadecimal digits.
        listed_in: where the digests were found, for the message.
        advice: what to do about a bad file, for the message.

    Raises:
        DamagedFileError: a file is missing, cannot be read, or has another SHA-256.
    """
    for name, wanted in digests.items():
        path = root / name
        try:
            found = sha256_of_file(path)
        except OSError as error:
            raise DamagedFileError(
                f"{place_of(path)} cannot be read ({error.strerror}), but {listed_in} lists it; {advice}"
            ) from None
        _compare(found, wanted, place_of(path), listed_in, advice)


def check_content(content: bytes, sha256: str, path: str, listed_in: str, advice: str) -> None:
    """`check_files` of one file that has been read already.

    Args:
        content: what was read.
        sha256: what was noted.
        path: of the file, for the message.
        listed_in: see `check_files`; as is `advice`.
        advice: see `listed_in`.

    Raises:
        DamagedFileError: it has another SHA-256.
    """
    _compare(hashlib.sha256(content).hexdigest(), sha256, path, listed_in, advice)


def say_unchecked(what: str) -> None:
    """Warns that what lies there is read without a check; once for each `what`."""
    warnings.warn(
        f"{what} was written before digests were noted, so a damaged file would go unnoticed",
        UncheckedFilesWarning,
        stacklevel=2,
    )


def _compare(found: str, wanted: str, path: str, listed_in: str, advice: str) -> None:
    if found != wanted:
        raise DamagedFileError(f"{path} is damaged or was changed: {listed_in} lists another SHA-256; {advice}")
