"""TLS and mTLS with one server and with several, each of which has a certificate of its own name."""

import asyncio
import contextlib
import dataclasses

import click
import grpc
import pytest
from click.testing import CliRunner

from export.client.async_client import AsyncTwinClient
from export.client.client import TwinClient
from export.contract import errors
from export.publishing.publisher import ServerCheck, refusal
from tests.export.client.answering import REQUEST, Answering, serving
from twin_tf.cli.main import main
from twin_tf.cli.tls import tls_options

pytest.importorskip(
    "cryptography", reason="TLS IS NOT TESTED: no certificates can be made; pip install 'twin-tf[dev]' brings what does"
)
from tests.export.client.certificates import Authority  # noqa: E402  it needs cryptography

HOSTS = ("localhost", "127.0.0.1")
"""Two names of this machine; the certificate of each server holds one of them alone."""


@pytest.fixture(scope="module")
def authority():
    return Authority()


def asked_sync(targets, calls=8, until=lambda: True, **settings):
    """The answers to so many calls, and to more until a condition holds."""
    answers = []
    with TwinClient(targets, timeout_s=20, **settings) as client:
        while len(answers) < calls or not until():
            answers.append(client.predict(REQUEST))
    return answers


def asked_async(targets, calls=8, until=lambda: True, **settings):
    async def work():
        answers = []
        async with AsyncTwinClient(targets, timeout_s=20, **settings) as client:
            while len(answers) < calls or not until():
                answers.append(await client.predict(REQUEST))
        return answers

    return asyncio.run(work())


both_clients = pytest.mark.parametrize("asked", [asked_sync, asked_async])


@contextlib.contextmanager
def two_servers(authority, hosts=HOSTS, client_authority=None):
    """The targets of two servers of these names, and what counts their calls."""
    handlers = [Answering(), Answering()]
    with contextlib.ExitStack() as stack:
        targets = []
        for host, reached_as, handler in zip(hosts, HOSTS, handlers, strict=True):
            pair = authority.certificate(host)
            credentials = grpc.ssl_server_credentials(
                [pair],
                root_certificates=None if client_authority is None else client_authority.pem,
                require_client_auth=client_authority is not None,
            )
            targets.append(f"{reached_as}:{stack.enter_context(serving(handler, credentials))}")
        yield targets, handlers


def trusting(authority, pair=(None, None)):
    return grpc.ssl_channel_credentials(authority.pem, *pair)


@both_clients
def test_each_server_is_known_by_its_own_name(authority, asked):
    with two_servers(authority) as (targets, handlers):
        both = lambda: min(handler.calls for handler in handlers) >= 5  # noqa: E731  in turn, once both are connected
        answers = asked(targets, until=both, credentials=trusting(authority))
    assert {str(answer.probability.tolist()) for answer in answers} == {"[[0.25, 0.5, 1.0]]"}
    assert sum(handler.calls for handler in handlers) == len(answers)


@both_clients
def test_one_server_alone_is_reached_by_name_and_by_address(authority, asked):
    with two_servers(authority) as (targets, handlers):
        for target in targets:
            asked(target, calls=1, credentials=trusting(authority))
    assert [handler.calls for handler in handlers] == [1, 1]


@both_clients
def test_a_client_shows_its_certificate(authority, asked):
    clients = Authority("the clients' authority")
    with two_servers(authority, client_authority=clients) as (targets, handlers):
        asked(targets, credentials=trusting(authority, clients.certificate()))
        assert sum(handler.calls for handler in handlers) == 8
        for pair in ((None, None), Authority("somebody else").certificate()):
            with pytest.raises(errors.UnavailableError):
                asked(targets, calls=1, credentials=trusting(authority, pair), max_retries=0)
        assert sum(handler.calls for handler in handlers) == 8


@both_clients
def test_a_server_of_another_name_or_authority_is_never_called(authority, asked):
    with (
        two_servers(authority, hosts=("elsewhere", "10.1.2.3")) as (targets, handlers),
        pytest.raises(errors.UnavailableError, match="no server answers at localhost:.*certificate names this host"),
    ):
        asked(targets, calls=1, credentials=trusting(authority))
    with two_servers(authority) as (targets, others):
        with pytest.raises(errors.UnavailableError):
            asked(targets, calls=1, credentials=trusting(Authority("somebody else")))
        with pytest.raises(errors.UnavailableError):
            asked(targets, calls=1)  # without TLS
    assert [handler.calls for handler in (*handlers, *others)] == [0] * 4


@both_clients
def test_the_server_whose_certificate_is_wrong_is_passed_over(authority, asked):
    with two_servers(authority, hosts=("elsewhere", "127.0.0.1")) as (targets, handlers):
        assert len(asked(targets, credentials=trusting(authority))) == 8
    assert [handler.calls for handler in handlers] == [0, 8]


@pytest.fixture
def files(authority, tmp_path):
    """PEM files: of the servers' authority, and of a client's certificate and key."""
    clients = Authority("the clients' authority")
    secret, chain = clients.certificate()
    paths = {"ca": authority.pem, "cert": chain, "key": secret}
    for name, content in paths.items():
        (tmp_path / f"{name}.pem").write_bytes(content)
    return clients, {name: str(tmp_path / f"{name}.pem") for name in paths}


@click.command()
@tls_options
@click.pass_context
def told(context, credentials):
    """Keeps the credentials that a command's options make."""
    context.obj.append(credentials)


def test_a_command_s_files_are_a_client_s_credentials(authority, files):
    clients, paths = files
    found = []
    for options in ([], ["--tls-ca", paths["ca"]], [part for name in paths for part in (f"--tls-{name}", paths[name])]):
        assert CliRunner().invoke(told, options, obj=found).exit_code == 0
    plain, trusting_alone, shown = found
    assert plain is None
    with two_servers(authority, client_authority=clients) as (targets, handlers):
        asked_sync(targets, calls=2, credentials=shown)
        with pytest.raises(errors.UnavailableError):
            asked_sync(targets, calls=1, credentials=trusting_alone, max_retries=0)
        assert sum(handler.calls for handler in handlers) == 2
        watching = ServerCheck(targets[0], timeout_s=0.5, credentials=shown)
        assert "is no TensorFlow Serving" in refusal(3, watching)  # reached: it answers Predict alone
        assert "no server answers" in refusal(3, dataclasses.replace(watching, credentials=None))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tls-cert", "{cert}"], "--tls-cert and --tls-key need --tls-ca"),
        (["--tls-ca", "{ca}", "--tls-key", "{key}"], "--tls-cert and --tls-key go together"),
        (["--tls-ca", "{ca}.none"], "cannot read {ca}.none: No such file or directory"),
        (["--tls-ca", __file__], "is no PEM file: it has no line"),
    ],
)
def test_wrong_files_of_tls_are_one_sentence(files, options, words):
    given = [option.format(**files[1]) for option in options]
    result = CliRunner().invoke(main, ["rollback", "--base-path", "none", "--server", "localhost:1", *given])
    assert result.exit_code in (1, 2) and words.format(**files[1]) in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["predict", "publish", "refresh", "rollback"])
def test_every_command_that_calls_a_server_takes_tls(name):
    options = {option for parameter in main.commands[name].params for option in parameter.opts}
    assert {"--server", "--tls-ca", "--tls-cert", "--tls-key"} <= options
    servers = {n for n, command in main.commands.items() if any("--server" in p.opts for p in command.params)}
    assert servers == {"predict", "publish", "refresh", "rollback"}
