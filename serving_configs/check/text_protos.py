"""Parses the server's text protos: by the real message where a package has it, else by one built from public fields.

`tensorflow-serving-api` has no BatchingParameters, MonitoringConfig and SSLConfig. Their fields and numbers are those
of servables/tensorflow/session_bundle_config.proto, config/monitoring_config.proto and config/ssl_config.proto.
"""

import re
from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

from twin_tf.core.dataclass_yaml import nearest

_PACKAGE = "twin_tests.serving"
_INT64, _BOOL, _STRING, _MESSAGE = 3, 8, 9, 11  # FieldDescriptorProto.Type
_FIELDS: dict[str, list[tuple[str, int, int | str]]] = {
    "BatchingParameters": [
        ("max_batch_size", 1, ".google.protobuf.Int64Value"),
        ("batch_timeout_micros", 2, ".google.protobuf.Int64Value"),
        ("max_enqueued_batches", 3, ".google.protobuf.Int64Value"),
        ("num_batch_threads", 4, ".google.protobuf.Int64Value"),
        ("thread_pool_name", 5, ".google.protobuf.StringValue"),
        ("allowed_batch_sizes", 6, _INT64),
        ("pad_variable_length_inputs", 7, _BOOL),
    ],
    "PrometheusConfig": [("enable", 1, _BOOL), ("path", 2, _STRING)],
    "MonitoringConfig": [("prometheus_config", 1, f".{_PACKAGE}.PrometheusConfig")],
    "SSLConfig": [
        ("server_key", 1, _STRING),
        ("server_cert", 2, _STRING),
        ("custom_ca", 3, _STRING),
        ("client_verify", 4, _BOOL),
    ],
}
_REPEATED = {"allowed_batch_sizes"}


def _build() -> dict[str, type[Any]]:
    file = descriptor_pb2.FileDescriptorProto(name="twin_tests/serving.proto", package=_PACKAGE, syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            entry = message.field.add(name=field, number=number, label=3 if field in _REPEATED else 1)
            if isinstance(kind, str):
                entry.type, entry.type_name = _MESSAGE, kind
            else:
                entry.type = kind
    pool = descriptor_pool.Default()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _FIELDS}


_OWN = _build()
KINDS: dict[str, type[Any]] = {
    "models.config": model_server_config_pb2.ModelServerConfig,
    "batching.config": _OWN["BatchingParameters"],
    "monitoring.config": _OWN["MonitoringConfig"],
    "ssl.config": _OWN["SSLConfig"],
}


def _names(descriptor: Any, seen: set[str]) -> Iterator[str]:
    if descriptor.full_name in seen:
        return
    seen.add(descriptor.full_name)
    for field in descriptor.fields:
        yield field.name
        if field.message_type is not None:
            yield from _names(field.message_type, seen)


def parse(file_name: str, text: str) -> Any:
    """The message of a file's kind.

    Raises:
        ValueError: it does not parse; an unknown field is named with the nearest known one.
    """
    kind = KINDS[file_name]
    try:
        return text_format.Parse(text, kind())
    except text_format.ParseError as error:
        unknown = re.search(r'has no field named "(\w+)"', str(error))
        hint = nearest(unknown.group(1), _names(kind.DESCRIPTOR, set())) if unknown else ""
        raise ValueError(f"{file_name}: {error}{hint}") from error
