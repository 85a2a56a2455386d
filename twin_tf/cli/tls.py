"""How a command that calls a server speaks TLS."""

import functools
from collections.abc import Callable
from typing import Any

import click

_OPTIONS = (
    ("--tls-ca", "PEM file of the authorities that sign the servers' certificates; without it no TLS."),
    ("--tls-cert", "PEM file of this client's certificate chain, where the servers ask for one."),
    ("--tls-key", "PEM file of its private key."),
)


def tls_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the files of TLS; the command gets them as `credentials` of the clients, None without `--tls-ca`."""

    @functools.wraps(command)
    def with_credentials(
        *args: Any, tls_ca: str | None, tls_cert: str | None, tls_key: str | None, **options: Any
    ) -> Any:
        if tls_ca is None:
            if tls_cert is not None or tls_key is not None:
                raise click.UsageError("--tls-cert and --tls-key need --tls-ca, which says whom to trust")
            return command(*args, credentials=None, **options)
        if (tls_cert is None) != (tls_key is None):
            raise click.UsageError("--tls-cert and --tls-key go together; give both or neither")
        from export.client.channel import tls_credentials

        return command(*args, credentials=tls_credentials(tls_ca, tls_cert, tls_key), **options)

    wrapped: Callable[..., Any] = with_credentials
    for name, text in reversed(_OPTIONS):
        wrapped = click.option(name, metavar="FILE", help=text)(wrapped)
    return wrapped
