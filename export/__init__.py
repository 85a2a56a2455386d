"""From a trained run to answers over gRPC: export, validate, publish, serve locally, call.

Importing this package costs nothing; `export.client.client`, `export.gate.validate` and `export.local_server.server`
never import TensorFlow.
"""
