"""The gRPC services of the stand-in: PredictionService, ModelService, health; errors as TensorFlow Serving has them."""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from export.contract.errors import InvalidArgumentError, ServingError
from export.local_server.served_models import ServedModels
from export.protos import config_pb2, serving_pb2

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_LONGEST_MESSAGE = 1024  # as TensorFlow Serving: an error travels in the HTTP/2 trailers, which have a limit
_SIGNATURES = "signature_def"


class GrpcServices:
    """PredictionService, ModelService and health over `ServedModels`."""

    def __init__(self, models: ServedModels) -> None:
        self._models = models

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """The services for `grpc.server`."""
        pb = serving_pb2
        methods: dict[str, dict[str, tuple[Callable[..., Any], Any]]] = {
            "tensorflow.serving.PredictionService": {
                "Predict": (self.predict, pb.PredictRequest),
                "GetModelMetadata": (self.metadata, pb.GetModelMetadataRequest),
            },
            "tensorflow.serving.ModelService": {
                "GetModelStatus": (self.status, pb.GetModelStatusRequest),
                "HandleReloadConfigRequest": (self.reload, config_pb2.ReloadConfigRequest),
            },
            "grpc.health.v1.Health": {"Check": (self.health, pb.HealthCheckRequest)},
        }
        return [
            grpc.method_handlers_generic_handler(
                service,
                {
                    name: grpc.unary_unary_rpc_method_handler(
                        _aborting(method, request),
                        response_serializer=lambda response: response.SerializeToString(),
                    )
                    for name, (method, request) in served.items()
                },
            )
            for service, served in methods.items()
        ]

    def predict(self, request: serving_pb2.PredictRequest) -> serving_pb2.PredictResponse:
        """Answers one request."""
        with self._models.acquire(asked_model(request)) as servable:
            return servable.predict(request)

    def metadata(self, request: serving_pb2.GetModelMetadataRequest) -> serving_pb2.GetModelMetadataResponse:
        """The served signatures."""
        if not request.HasField("model_spec"):
            raise InvalidArgumentError("Missing ModelSpec")
        if not request.metadata_field:
            raise InvalidArgumentError("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != _SIGNATURES:
                # The original hands a format string to a function that joins its arguments.
                raise InvalidArgumentError(f"Metadata field %s is not supported{field}")
        response = serving_pb2.GetModelMetadataResponse()
        with self._models.acquire(asked_model(request)) as servable:
            signatures = serving_pb2.SignatureDefMap(signature_def=servable.session.signature_defs)
            response.model_spec.name = request.model_spec.name
            response.model_spec.version.value = servable.version or 0
        packed = response.metadata[_SIGNATURES]
        packed.type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        packed.value = signatures.SerializeToString()
        return response

    def status(self, request: serving_pb2.GetModelStatusRequest) -> serving_pb2.GetModelStatusResponse:
        """States of versions."""
        return serving_pb2.GetModelStatusResponse(model_version_status=self._models.status(asked_model(request)))

    def reload(self, request: config_pb2.ReloadConfigRequest) -> config_pb2.ReloadConfigResponse:
        """Takes over another configuration; what is wrong with it is in the answer's status, as in the original."""
        response = config_pb2.ReloadConfigResponse()
        try:
            self._models.configure(request.config)
        except ServingError as error:
            response.status.error_code, response.status.error_message = error.code, error.message
        return response

    def health(self, request: serving_pb2.HealthCheckRequest) -> serving_pb2.HealthCheckResponse:
        """SERVING while every model has an available version."""
        del request  # every service is as healthy as the whole
        serving = self._models.failure() is None
        return serving_pb2.HealthCheckResponse(status="SERVING" if serving else "NOT_SERVING")


def asked_model(request: Any) -> serving_pb2.ModelSpec | None:
    """A request's `model_spec`; None where it was not sent at all."""
    return request.model_spec if request.HasField("model_spec") else None


def _aborting(
    method: Callable[[Any], Message], kind: type[Message]
) -> Callable[[bytes, grpc.ServicerContext], Message]:
    def handle(data: bytes, context: grpc.ServicerContext) -> Message:
        try:
            request = kind.FromString(data)
        except DecodeError:
            context.abort(grpc.StatusCode.INTERNAL, "")  # as the original: no more than the code
            raise
        try:
            return method(request)
        except ServingError as error:
            context.abort(_CODES[error.code], error.message[:_LONGEST_MESSAGE])
            raise

    return handle
