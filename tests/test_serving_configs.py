"""The files for stock TensorFlow Serving parse against its own protos and name what the project names."""

from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from export.warmup import MODEL_NAME

CONFIGS = Path(__file__).parent.parent / "serving_configs"


def test_models_config_serves_the_newest_version_under_the_clients_default_name():
    text = (CONFIGS / "models.config").read_text(encoding="utf-8")
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert model.name == MODEL_NAME
    assert model.model_platform == "tensorflow"
    assert model.model_version_policy.latest.num_versions == 1
