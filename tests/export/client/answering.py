"""A gRPC server in the test's own process that answers Predict as it is told to, with or without TLS; no model."""

import contextlib
from concurrent import futures

import grpc
import numpy as np

from export.contract.tensors import encode
from export.protos import serving_pb2

REQUEST = {"history_item": [5, 6], "history_time": [1, 2], "request_time": 9, "candidate_item": [7, 8, 9]}
SOUND = {
    "probability": np.array([[0.25, 0.5, 1.0]], np.float32),
    "unknown_items": np.array([1], np.int32),
    "adjusted": np.array([0], np.int32),
    "contract": np.array([5]),
    "weights_version": np.array([11]),
    "table_version": np.array([12]),
}


class Answering(grpc.GenericRpcHandler):
    """Answers every Predict with `outputs` and counts the calls; fails with `failing` where that is a code."""

    def __init__(self, outputs=None, failing=None):
        self.outputs, self.failing, self.calls = SOUND if outputs is None else outputs, failing, 0

    def service(self, details):
        if details.method.endswith("/Predict"):
            return grpc.unary_unary_rpc_method_handler(
                self.predict, serving_pb2.PredictRequest.FromString, serving_pb2.PredictResponse.SerializeToString
            )
        return None

    def predict(self, request, context):
        self.calls += 1
        if self.failing is not None:
            context.abort(self.failing, "as told")
        response = serving_pb2.PredictResponse()
        response.model_spec.version.value = 3
        for name, array in self.outputs.items():
            encode(np.asarray(array), response.outputs[name])
        return response


@contextlib.contextmanager
def serving(handler, credentials=None, port=0, options=()):
    """The port on which `handler` answers until the block ends."""
    options = [("grpc.so_reuseport", 0), *options]
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[handler], options=options)
    address = f"127.0.0.1:{port}"
    bound = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
    server.start()
    try:
        yield bound
    finally:
        server.stop(None).wait()
