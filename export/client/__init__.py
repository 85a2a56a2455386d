"""Clients of a served model; no TensorFlow."""

from export.client.async_client import AsyncTwinClient
from export.client.client import TwinClient
from export.client.request import ClickRequest, ClickResponse

__all__ = ["AsyncTwinClient", "ClickRequest", "ClickResponse", "TwinClient"]
