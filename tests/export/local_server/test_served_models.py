"""Several models, version policies and labels, from a configuration in TensorFlow Serving's own text form."""

import subprocess
import sys

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.config import model_server_config_pb2

from export.client.client import TwinClient
from export.contract import errors
from export.local_server.server import start_local_server
from export.local_server.version_manager import chosen_versions
from export.protos import config_pb2
from export.session.child_process import child_environment
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.integration

CONFIG = """
model_config_list {{
  config {{
    name: "twin" base_path: "{base}/twin" model_platform: "tensorflow"
    model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}
    version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 2 }}
  }}
  config {{ name: "other" base_path: "{base}/other" model_version_policy {{ latest {{ num_versions: 2 }} }} }}
}}
"""
ITEM = {"item": np.array([[100]])}


def reload(address, text):
    """Sends the public message; returns the answered status."""
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    request = model_management_pb2.ReloadConfigRequest(config=config)
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary("/tensorflow.serving.ModelService/HandleReloadConfigRequest")
        status = model_management_pb2.ReloadConfigResponse.FromString(
            method(request.SerializeToString(), timeout=PATIENCE_S)
        ).status
    return status.error_code, status.error_message


def test_policies_labels_and_reloading(toys, place, tmp_path):
    for name, model, number in (("twin", "good", 1), ("twin", "second", 2), ("twin", "good", 3), ("other", "good", 7)):
        (tmp_path / name).mkdir(exist_ok=True)
        place(toys / model, tmp_path / name, number)
    text = CONFIG.format(base=tmp_path)
    (tmp_path / "models.config").write_text(text)

    def versions(**asked):
        with TwinClient(server.address, timeout_s=PATIENCE_S, **asked) as client:
            return client.call("item_projection", ITEM)["weights_version"].tolist(), client.model_status()

    with start_local_server(None, config=tmp_path / "models.config", poll_seconds=0.1) as server:
        assert versions() == ([2], {2: "AVAILABLE", 1: "AVAILABLE"})
        assert versions(label="stable")[0] == [1]
        assert versions(label="canary")[0] == [2]
        assert versions(version=1)[0] == [1]
        assert versions(model_name="other") == ([1], {7: "AVAILABLE"})
        with pytest.raises(errors.InvalidArgumentError, match="Unrecognized servable version label: next"):
            versions(label="next")

        moved = text.replace('"stable" value: 1', '"stable" value: 3')
        refusal = "Request to assign label to version 3 of model twin, which is not currently available for inference"
        assert reload(server.address, moved) == (9, refusal)
        assert versions(label="stable")[0] == [1]
        added = text.replace("versions: 1 versions: 2", "versions: 1 versions: 2 versions: 3")
        assert reload(server.address, added) == (0, "")
        assert reload(server.address, added.replace('"stable" value: 1', '"stable" value: 3')) == (0, "")
        assert versions(label="stable") == ([1], {3: "AVAILABLE", 2: "AVAILABLE", 1: "AVAILABLE"})

        alone = text.partition('  config { name: "other"')[0] + "}"
        assert reload(server.address, alone) == (0, "")
        assert versions()[1] == {3: "END", 2: "AVAILABLE", 1: "AVAILABLE"}
        with pytest.raises(errors.NotFoundError, match=r"Servable not found for request: Latest\(other\)"):
            versions(model_name="other")


def serve(*arguments):
    command = [sys.executable, "-m", "export.local_server", "--port=0", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=child_environment(), timeout=PATIENCE_S, check=False
    )


def test_a_configuration_is_refused_in_one_sentence(toys, place, tmp_path):
    place(toys / "good", tmp_path, 1)
    config = tmp_path / "models.config"
    labelled = f'model_config_list {{ config {{ name: "a" base_path: "{tmp_path}" '
    for text, sentence in (
        ("nonsense", "is no model configuration that the stand-in understands: 1:1"),
        (
            labelled + 'version_labels { key: "stable" value: 1 } } }',
            "Request to assign label to version 1 of model a, which is not currently available for inference",
        ),
        (labelled + 'model_platform: "other" } }', "model a has the platform 'other', not tensorflow"),
    ):
        config.write_text(text)
        done = serve("--model_config_file", config)
        assert done.returncode == 1
        assert sentence in done.stderr.strip().splitlines()[-1]
        assert "Traceback" not in done.stderr
    assert serve("--model_config_file", tmp_path / "none").stderr.startswith(
        "Error: cannot read the model configuration"
    )
    assert serve().returncode == 2


def test_policies_choose_versions():
    policy = config_pb2.VersionPolicy()
    assert chosen_versions(policy, [1, 5, 9]) == [9]
    assert chosen_versions(policy, []) == []
    policy.latest.num_versions = 2
    assert chosen_versions(policy, [1, 5, 9]) == [5, 9]
    policy.all.SetInParent()
    assert chosen_versions(policy, [1, 5, 9]) == [1, 5, 9]
    policy.specific.versions.extend([1, 4])
    assert chosen_versions(policy, [1, 5, 9]) == [1]
