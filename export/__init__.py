"""From a trained run to answers over gRPC: export, validate, publish, serve locally, call.

Importing this package costs nothing; public names are loaded on first use. Only `export_run` imports TensorFlow.
"""

import importlib
from typing import Any

_PUBLIC = {
    "TwinClient": "export.client.client",
    "AsyncTwinClient": "export.client.async_client",
    "export_run": "export.saved_model.exporter",
    "validate": "export.gate.validate",
    "publish": "export.publishing.publisher",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'export' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
