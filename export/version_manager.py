"""Which versions of a model are served: the newest directory, swapped in while requests flow.

A new version is loaded and warmed up beside the old one; only then do requests move over, and the old one is freed when
its last request has been answered. A version that fails to load or to warm up is refused and the old one serves on.
"""

import contextlib
import dataclasses
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from export.errors import InvalidArgumentError, NotFoundError, ServingError
from export.loaded_version import LoadedVersion
from export.protos import serving_pb2

_log = logging.getLogger(__name__)
_State = serving_pb2.ModelVersionStatus


@dataclasses.dataclass
class _Version:
    number: int
    identity: tuple[int, int]  # inode and modification time of the directory: a changed one is tried again
    state: serving_pb2.ModelVersionStatus.State = _State.START
    error: ServingError | None = None
    servable: LoadedVersion | None = None
    requests: int = 0


def version_numbers(base_path: Path) -> list[int]:
    """The version directories of a base path, rising; hidden and other names are not versions."""
    return sorted(int(p.name) for p in base_path.iterdir() if re.fullmatch(r"[0-9]+", p.name) and p.is_dir())


class VersionManager:
    """Serves the newest version under a base path.

    Args:
        model_name: the name requests must carry.
        base_path: holds the version directories.
        intra_op_threads: as in `CppSession`.
        inter_op_threads: as in `CppSession`.
    """

    def __init__(
        self, model_name: str, base_path: str | Path, *, intra_op_threads: int = 0, inter_op_threads: int = 0
    ) -> None:
        self.model_name = model_name
        self.base_path = Path(base_path)
        self._threads = {"intra_op_threads": intra_op_threads, "inter_op_threads": inter_op_threads}
        self._versions: dict[int, _Version] = {}
        self._changed = threading.Condition()
        self._refreshing = threading.Lock()

    def refresh(self) -> None:
        """Looks at the base path once, and loads and unloads what that asks for."""
        with self._refreshing:
            try:
                numbers = version_numbers(self.base_path)
            except OSError as error:
                _log.warning("cannot list %s: %s; serving on", self.base_path, error.strerror)
                return
            if not numbers:
                _log.warning("no versions of %s under %s; unloading", self.model_name, self.base_path)
            elif not self._load(numbers[-1]):
                return
            for version in self._available():
                if not numbers or version.number != numbers[-1]:
                    self._unload(version)

    @contextlib.contextmanager
    def acquire(self, spec: serving_pb2.ModelSpec) -> Iterator[LoadedVersion]:
        """The version a request asks for, kept loaded until the block ends.

        Raises:
            InvalidArgumentError: no model named, or a version label (the stand-in has none).
            NotFoundError: no such model or version.
        """
        if not spec.name:
            raise InvalidArgumentError("Missing ModelSpec")
        if spec.WhichOneof("version_choice") == "version_label":
            raise InvalidArgumentError(f"Unrecognized servable version label: {spec.version_label}")
        wanted = spec.version.value if spec.HasField("version") else None
        with self._changed:
            found = [v for v in self._available() if wanted in (None, v.number)] if spec.name == self.model_name else []
            if not found:
                asked = f"Latest({spec.name})" if wanted is None else f"Specific({spec.name}, {wanted})"
                raise NotFoundError(f"Servable not found for request: {asked}")
            version = max(found, key=lambda v: v.number)
            version.requests += 1
        try:
            if version.servable is None:
                raise NotFoundError(f"Servable not found for request: Latest({spec.name})")
            yield version.servable
        finally:
            with self._changed:
                version.requests -= 1
                self._changed.notify_all()

    def status(self, spec: serving_pb2.ModelSpec) -> list[serving_pb2.ModelVersionStatus]:
        """State of the asked version, or of all versions ever seen.

        Raises:
            InvalidArgumentError: no model named.
            NotFoundError: no such model or version.
        """
        if not spec.name:
            raise InvalidArgumentError("Missing ModelSpec")
        wanted = spec.version.value if spec.HasField("version") else None
        with self._changed:
            known = sorted(self._versions.values(), key=lambda v: -v.number) if spec.name == self.model_name else []
            found = [v for v in known if wanted in (None, v.number)]
            if not found and wanted is not None:
                raise NotFoundError(f"Could not find version {wanted} of model {spec.name}")
            if not found:
                raise NotFoundError(f"Could not find any versions of model {spec.name}")
            result = []
            for version in found:
                entry = serving_pb2.ModelVersionStatus(version=version.number, state=version.state)
                entry.status.error_code = version.error.code if version.error else 0
                entry.status.error_message = version.error.message if version.error else ""
                result.append(entry)
            return result

    def failure(self) -> ServingError | None:
        """Why nothing is served, if nothing is."""
        with self._changed:
            if self._available():
                return None
            errors = [v.error for v in self._versions.values() if v.error is not None]
            return errors[-1] if errors else NotFoundError(f"no version under {self.base_path}")

    def close(self) -> None:
        """Unloads everything."""
        with self._refreshing:
            for version in self._available():
                self._unload(version)

    def _available(self) -> list[_Version]:
        return [v for v in self._versions.values() if v.state == _State.AVAILABLE]

    def _load(self, number: int) -> bool:
        """Makes a version available; False if it is refused."""
        directory = self.base_path / str(number)
        try:
            stat = directory.stat()
        except OSError:  # removed since it was listed: the next look will tell
            return False
        identity = (stat.st_ino, stat.st_mtime_ns)
        known = self._versions.get(number)
        if known is not None and known.identity == identity and known.state != _State.END:
            return known.state == _State.AVAILABLE
        if known is not None and known.identity == identity and known.error is not None:
            return False
        if known is not None and known.state == _State.AVAILABLE:
            return True  # a loaded version is never replaced under its own number
        version = _Version(number, identity, _State.LOADING)
        with self._changed:
            self._versions[number] = version
        _log.info("loading version %d of %s", number, self.model_name)
        servable = None
        try:
            servable = LoadedVersion(directory, number, **self._threads)
            warmed = servable.warm_up()
        except (ServingError, OSError) as error:
            if servable is not None:
                servable.close()
            with self._changed:
                version.error = error if isinstance(error, ServingError) else ServingError(str(error))
                version.state = _State.END
            _log.error("refused version %d of %s: %s", number, self.model_name, version.error.sentence)
            return False
        with self._changed:
            version.servable, version.state = servable, _State.AVAILABLE
        _log.info("version %d of %s is available after %d warm-up requests", number, self.model_name, warmed)
        return True

    def _unload(self, version: _Version) -> None:
        with self._changed:
            version.state = _State.UNLOADING
            self._changed.wait_for(lambda: not version.requests)
            servable, version.servable = version.servable, None
            version.state = _State.END
        if servable is not None:
            servable.close()
        _log.info("unloaded version %d of %s", version.number, self.model_name)
