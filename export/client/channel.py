"""A channel to one server of a model: its name for gRPC, and its limits."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

_NEVER = (1 << 31) - 1


def channel_options(max_receive_bytes: int = 64 << 20) -> list[tuple[str, Any]]:
    """The options of a channel, sync and asyncio alike.

    Args:
        max_receive_bytes: the largest answer taken (gRPC's own default is 4 MiB).
    """
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}  # over the addresses of one name
    return [
        ("grpc.service_config", json.dumps(config)),
        ("grpc.max_receive_message_length", max_receive_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 2000),  # also how long a connection may take: TLS to a busy server needs time
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.client_idle_timeout_ms", _NEVER),  # else, after 30 minutes, a server counts as gone until it is called
        ("grpc.use_local_subchannel_pool", 1),  # two clients do not share each other's broken connections
    ]


def target_uris(addresses: Sequence[str]) -> list[str]:
    """What gRPC calls each server: a DNS name of its own, which is also what its certificate is checked against.

    Raises:
        ValueError: no address, or one without a port.
    """
    if not addresses:
        raise ValueError("targets is empty; give at least one host:port")
    for address in addresses:
        host, separator, digits = address.rpartition(":")
        if not separator or not host or not digits.isdecimal() or not 0 < int(digits) < 65536:
            raise ValueError(f"target {address!r} must read host:port, for example 127.0.0.1:8500")
    return [f"dns:///{address}" for address in addresses]


def tls_credentials(
    authority: str | Path, certificate: str | Path | None = None, key: str | Path | None = None
) -> grpc.ChannelCredentials:
    """Credentials of PEM files, for the clients' `credentials`.

    Args:
        authority: certificates of the authorities that the servers' certificates are signed by.
        certificate: the client's own certificate chain, where the servers ask for one.
        key: its private key.

    Raises:
        ValueError: a file that cannot be read or holds no PEM, or one of `certificate` and `key` without the other.
    """
    if (certificate is None) != (key is None):
        raise ValueError("a client's certificate and its key go together; give both or neither")
    trusted, chain, secret = (None if path is None else _pem(path) for path in (authority, certificate, key))
    return grpc.ssl_channel_credentials(trusted, secret, chain)


def _pem(path: str | Path) -> bytes:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if b"-----BEGIN " not in content:
        raise ValueError(f"{path} is no PEM file: it has no line '-----BEGIN ...'")
    return content
