"""Model directories of a few bytes, and a gate that passes them: what a publisher does with files needs no model."""

import json

from export.contract.file_manifest import write_manifest


def write_model(directory, weights_version=1, *, size=10, manifest=False):
    """Writes what a publisher takes for a model of one training."""
    (directory / "variables").mkdir(parents=True)
    (directory / "assets.extra").mkdir()
    (directory / "saved_model.pb").write_bytes(b"graph")
    (directory / "variables/variables.index").write_bytes(b"index")
    (directory / "variables/variables.data-00000-of-00001").write_bytes(b"w" * size)
    (directory / "assets.extra/vocabulary.json").write_text('["android", "ios"]')
    described = {"run": f"run-{weights_version}", "weights_version": weights_version}
    (directory / "assets.extra/export.json").write_text(json.dumps(described))
    if manifest:
        write_manifest(directory)
    return directory


def pass_the_gate(monkeypatch):
    """Every directory is fit."""
    monkeypatch.setattr("export.publishing.publisher.validate_apart", lambda *_, **__: "")
