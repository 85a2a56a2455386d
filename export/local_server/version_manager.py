"""Which versions of a model are served: the newest directories (or others, by policy), swapped in while requests flow.

A new version is loaded and warmed up beside the old one; only then do requests move over, and the old one is freed when
its last request has been answered. A version that fails to load or to warm up is refused and the old one serves on.
"""

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from export.contract.errors import DataLossError, NotFoundError, ServingError
from export.contract.file_manifest import fault, has_manifest
from export.contract.version_layout import look
from export.protos import config_pb2, serving_pb2
from export.session.loaded_version import LoadedVersion

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


def chosen_versions(policy: config_pb2.VersionPolicy, present: Sequence[int]) -> list[int]:
    """Those of the `present` versions (rising) that a policy asks for: by default the newest alone."""
    if policy.WhichOneof("policy_choice") == "all":
        return list(present)
    if policy.WhichOneof("policy_choice") == "specific":
        return [number for number in present if number in policy.specific.versions]
    return list(present[-(policy.latest.num_versions or 1) :])


class VersionManager:
    """Serves versions under a base path.

    Args:
        model_name: for its log and its errors.
        base_path: holds the version directories.
        policy: which of them to serve; the newest if None.
        intra_op_threads: as in `CppSession`.
        inter_op_threads: as in `CppSession`.
    """

    def __init__(
        self,
        model_name: str,
        base_path: str | Path,
        policy: config_pb2.VersionPolicy | None = None,
        *,
        intra_op_threads: int = 0,
        inter_op_threads: int = 0,
    ) -> None:
        self.model_name = model_name
        self.base_path = Path(base_path)
        self.policy = policy if policy is not None else config_pb2.VersionPolicy()
        self._threads = {"intra_op_threads": intra_op_threads, "inter_op_threads": inter_op_threads}
        self._versions: dict[int, _Version] = {}
        self._changed = threading.Condition()
        self._refreshing = threading.Lock()
        self._foreign = ""

    def refresh(self) -> None:
        """Looks at the base path once, and loads and unloads what that asks for."""
        with self._refreshing:
            try:
                found = look(self.base_path)
            except OSError as error:
                _log.warning("cannot list %s: %s; serving on", self.base_path, error.strerror)
                return
            foreign = found.foreign_sentence()
            if foreign and foreign != self._foreign:
                _log.warning("%s holds %s", self.base_path, foreign)
            self._foreign = foreign
            wanted = chosen_versions(self.policy, found.versions)
            if not wanted:
                _log.warning("no versions of %s under %s; unloading", self.model_name, self.base_path)
            loaded = [self._load(number) for number in reversed(wanted)]
            if wanted and not any(loaded):
                return  # what is served stays until there is something to take its place
            for version in self._available():
                if version.number not in wanted:
                    self._unload(version)

    @contextlib.contextmanager
    def acquire(self, wanted: int | None) -> Iterator[LoadedVersion]:
        """A version, the newest for None, kept loaded until the block ends.

        Raises:
            NotFoundError: it is not served.
        """
        with self._changed:
            found = [v for v in self._available() if wanted in (None, v.number)]
            version = max(found, key=lambda v: v.number, default=None)
            if version is None or version.servable is None:
                asked = f"Latest({self.model_name})" if wanted is None else f"Specific({self.model_name}, {wanted})"
                raise NotFoundError(f"Servable not found for request: {asked}")
            servable = version.servable
            version.requests += 1
        try:
            yield servable
        finally:
            with self._changed:
                version.requests -= 1
                self._changed.notify_all()

    def available(self) -> list[int]:
        """The versions that answer requests now."""
        with self._changed:
            return sorted(version.number for version in self._available())

    def status(self, wanted: int | None) -> list[serving_pb2.ModelVersionStatus]:
        """State of a version, or for None of all versions ever seen, newest first; empty if there is none."""
        with self._changed:
            result = []
            for version in sorted(self._versions.values(), key=lambda v: -v.number):
                if wanted not in (None, version.number):
                    continue
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
            if has_manifest(directory) and (reason := fault(directory)):
                raise DataLossError(f"version {number} is not what was exported: {reason}")
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
