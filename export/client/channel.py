"""How a client reaches the servers of one model: their names for gRPC, retries, round robin and limits."""

import json
import socket
from collections.abc import Sequence
from typing import Any

MOST_RETRIES = 3


def channel_options(max_receive_bytes: int = 64 << 20, max_retries: int = MOST_RETRIES) -> list[tuple[str, Any]]:
    """The options of a channel, sync and asyncio alike: UNAVAILABLE alone is retried, throttled, on the next server.

    Args:
        max_receive_bytes: the largest answer taken (gRPC's own default is 4 MiB).
        max_retries: 0 to 3.

    Raises:
        ValueError: `max_retries` is out of range.
    """
    if not 0 <= max_retries <= MOST_RETRIES:
        raise ValueError(
            f"max_retries must be 0 to {MOST_RETRIES}, not {max_retries}: more only adds load to an ailing server"
        )
    policy = {
        "maxAttempts": max_retries + 1,
        "initialBackoff": "0.05s",
        "maxBackoff": "0.5s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config: dict[str, Any] = {
        "loadBalancingConfig": [{"round_robin": {}}],
        # Throttling: after many failures the retries stop, so a dying server is not drowned in them.
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
    }
    if max_retries:
        config["methodConfig"] = [{"name": [{}], "retryPolicy": policy}]
    return [
        ("grpc.service_config", json.dumps(config)),
        ("grpc.enable_retries", int(max_retries > 0)),
        ("grpc.per_rpc_retry_buffer_size", 64 << 20),  # a request above the default 256 KiB would never be retried
        ("grpc.max_receive_message_length", max_receive_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.use_local_subchannel_pool", 1),  # two clients do not share each other's broken connections
    ]


def target_uri(addresses: Sequence[str]) -> str:
    """Names the servers to gRPC: by DNS for one, by their resolved addresses for several.

    Raises:
        ValueError: no address, one without a port, a host name that does not resolve, or IPv4 mixed with IPv6.
    """
    if not addresses:
        raise ValueError("targets is empty; give at least one host:port")
    pairs = []
    for address in addresses:
        host, separator, digits = address.rpartition(":")
        if not separator or not host or not digits.isdigit() or not 0 < int(digits) < 65536:
            raise ValueError(f"target {address!r} must read host:port, for example 127.0.0.1:8500")
        pairs.append((host.strip("[]"), int(digits)))
    if len(pairs) == 1:
        return f"dns:///{addresses[0]}"
    resolved: list[tuple[socket.AddressFamily, str]] = []
    for (host, port), address in zip(pairs, addresses, strict=True):
        try:
            family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            ip = str(place[0])
        except OSError as error:
            raise ValueError(f"the host of target {address!r} does not resolve: {error}") from error
        resolved.append((family, f"[{ip}]:{port}" if family == socket.AF_INET6 else f"{ip}:{port}"))
    families = {family for family, _ in resolved}
    if len(families) > 1:
        raise ValueError(f"targets {', '.join(addresses)} mix IPv4 and IPv6; use one of the two")
    scheme = "ipv6" if socket.AF_INET6 in families else "ipv4"
    return f"{scheme}:{','.join(place for _, place in resolved)}"
