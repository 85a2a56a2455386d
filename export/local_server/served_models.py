"""The models of one server: which they are, their labels, and what a request's `ModelSpec` asks for.

Checks and texts are those of TensorFlow Serving's `ServerCore`, its rule for labels included: a label may only be given
to a version that is available at that moment, so a configuration cannot add a version and label it at once.
"""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from google.protobuf import text_format

from export.contract.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, ServingError
from export.local_server.version_manager import VersionManager
from export.protos import config_pb2, serving_pb2
from export.session.loaded_version import LoadedVersion


def read_model_config(path: str | Path) -> config_pb2.ModelServerConfig:
    """Reads a `--model_config_file`.

    Raises:
        ValueError: no such file, or none that the stand-in understands.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        config = text_format.Parse(text, config_pb2.ModelServerConfig())
    except OSError as error:
        raise ValueError(f"cannot read the model configuration {path}: {error.strerror}") from error
    except text_format.ParseError as error:
        raise ValueError(f"{path} is no model configuration that the stand-in understands: {error}") from error
    return config


def single_model(
    name: str, base_path: str | Path, policy: config_pb2.VersionPolicy | None = None
) -> config_pb2.ModelServerConfig:
    """The configuration of one model, its newest version unless a policy says otherwise."""
    model = config_pb2.ModelConfig(name=name, base_path=str(base_path), model_version_policy=policy)
    return config_pb2.ModelServerConfig(model_config_list=config_pb2.ModelConfigList(config=[model]))


class ServedModels:
    """One `VersionManager` per model.

    Args:
        intra_op_threads: as in `CppSession`.
        inter_op_threads: as in `CppSession`.
        labels_before_load: let a new label name a version that is not available yet.
    """

    def __init__(
        self, *, intra_op_threads: int = 0, inter_op_threads: int = 0, labels_before_load: bool = False
    ) -> None:
        self._threads = {"intra_op_threads": intra_op_threads, "inter_op_threads": inter_op_threads}
        self._labels_before_load = labels_before_load
        self._managers: dict[str, VersionManager] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._configuring = threading.Lock()

    @property
    def managers(self) -> Mapping[str, VersionManager]:
        """Model name -> its versions."""
        return dict(self._managers)

    def configure(self, config: config_pb2.ModelServerConfig) -> None:
        """Takes over a configuration: labels first, then models that come, change and go, as the original does.

        Raises:
            ServingError: the configuration is refused (nothing changed), or a new model does not load.
        """
        if config.WhichOneof("config") is None:
            return  # the original takes no action either
        with self._configuring:
            models = {model.name: model for model in config.model_config_list.config}
            _check(config)
            self._labels = self._checked_labels(models)
            gone = [self._managers[name] for name in self._managers.keys() - models.keys()]
            fresh: list[VersionManager] = []
            managers: dict[str, VersionManager] = {}
            for name, model in models.items():
                manager = self._managers.get(name)
                if manager is None:
                    manager = VersionManager(name, model.base_path, model.model_version_policy, **self._threads)
                    fresh.append(manager)
                manager.base_path, manager.policy = Path(model.base_path), model.model_version_policy
                managers[name] = manager
            self._managers = managers
            for manager in gone:
                manager.close()
            for manager in managers.values():
                manager.refresh()
            for manager in fresh:
                failure = manager.failure()
                if failure is not None:
                    raise failure

    @contextlib.contextmanager
    def acquire(self, spec: serving_pb2.ModelSpec | None) -> Iterator[LoadedVersion]:
        """The version a request asks for, kept loaded until the block ends.

        Raises:
            InvalidArgumentError: no model named, or an unknown label.
            NotFoundError: no such model or version.
        """
        if spec is None:
            raise InvalidArgumentError("Missing ModelSpec")
        if not spec.name:
            raise InvalidArgumentError("ModelSpec has no name specified.")
        wanted = spec.version.value if spec.HasField("version") else None
        if spec.WhichOneof("version_choice") == "version_label":
            wanted = self._labels.get(spec.name, {}).get(spec.version_label)
            if wanted is None:
                raise InvalidArgumentError(f"Unrecognized servable version label: {spec.version_label}")
        manager = self._managers.get(spec.name)
        if manager is None:
            asked = f"Latest({spec.name})" if wanted is None else f"Specific({spec.name}, {wanted})"
            raise NotFoundError(f"Servable not found for request: {asked}")
        with manager.acquire(wanted) as servable:
            yield servable

    def status(self, spec: serving_pb2.ModelSpec | None) -> list[serving_pb2.ModelVersionStatus]:
        """State of the asked version, or of all versions ever seen.

        Raises:
            InvalidArgumentError: no model named.
            NotFoundError: no such model or version.
        """
        if spec is None:
            raise InvalidArgumentError("Missing ModelSpec")
        wanted = spec.version.value if spec.HasField("version") else None
        manager = self._managers.get(spec.name)
        found = manager.status(wanted) if manager is not None else []
        if not found and wanted is not None:
            raise NotFoundError(f"Could not find version {wanted} of model {spec.name}")
        if not found:
            raise NotFoundError(f"Could not find any versions of model {spec.name}")
        return found

    def refresh(self) -> None:
        """Looks at every base path once, and loads and unloads what that asks for."""
        for manager in list(self._managers.values()):
            manager.refresh()

    def failure(self) -> ServingError | None:
        """Why a model is not served, if one is not."""
        return next((failure for m in self._managers.values() if (failure := m.failure()) is not None), None)

    def close(self) -> None:
        """Unloads everything."""
        for manager in self._managers.values():
            manager.close()

    def _checked_labels(self, models: Mapping[str, config_pb2.ModelConfig]) -> dict[str, dict[str, int]]:
        labels: dict[str, dict[str, int]] = {}
        for name, model in models.items():
            manager = self._managers.get(name)
            available = manager.available() if manager is not None else []
            for label, version in model.version_labels.items():
                now = self._labels.get(name, {}).get(label)
                if version not in available and not (self._labels_before_load and now in (None, version)):
                    raise FailedPreconditionError(
                        f"Request to assign label to version {version} of model {name}, which is not currently"
                        " available for inference"
                    )
                labels.setdefault(name, {})[label] = version
        return labels


def _check(config: config_pb2.ModelServerConfig) -> None:
    names = [model.name for model in config.model_config_list.config]
    for model in config.model_config_list.config:
        if not model.name or not model.base_path:
            raise InvalidArgumentError(f"a model configuration needs name and base_path: {model}".strip())
        if model.model_platform not in ("", "tensorflow"):
            raise InvalidArgumentError(f"model {model.name} has the platform {model.model_platform!r}, not tensorflow")
        if names.count(model.name) > 1:
            raise InvalidArgumentError(f"the model configuration names {model.name} twice")
