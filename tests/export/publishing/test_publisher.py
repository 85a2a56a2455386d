"""A version appears whole or not at all, the last good one stays, and one command goes back to it."""

import fcntl
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from export.client.client import TwinClient
from export.contract.errors import ServingError
from export.contract.file_manifest import MANIFEST, fault
from export.contract.version_layout import version_numbers
from export.gate.limits import Limits
from export.local_server.server import start_local_server
from export.publishing.publisher import PublishError, ServerCheck, publish, refusal, roll_back
from export.publishing.version_store import hidden_numbers
from export.session.child_process import child_environment
from tests.patience import PATIENCE_S, PAUSE_S

pytestmark = pytest.mark.integration


def contents(directory: Path):
    """Every file but the publisher's own manifest."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {name: path.read_bytes() for path in files if (name := str(path.relative_to(directory))) != MANIFEST}


def leftovers(base: Path):
    return [path.name for path in base.iterdir() if not path.name.isdigit() and path.name != ".publish.lock"]


def test_versions_rise_and_the_newest_three_stay(toys, tmp_path):
    base = tmp_path / "models"
    for old in (5, 7, 4_000_000_000):  # one from a clock that runs ahead
        shutil.copytree(toys / "good", base / str(old))
    first = publish(toys / "good", base)
    second = publish(toys / "second", base)
    assert [first.name, second.name] == ["4000000001", "4000000002"]
    assert version_numbers(base) == [4_000_000_000, 4_000_000_001, 4_000_000_002]
    assert contents(second) == contents(toys / "second")
    assert fault(second) == ""
    assert leftovers(base) == []


def test_an_unfit_version_leaves_the_base_path_as_it_was(toys, tmp_path):
    base = tmp_path / "models"
    shutil.copytree(toys / "good", base / "1")
    with pytest.raises(PublishError) as refused:
        publish(toys / "stale_table", base, keep=2)
    assert str(refused.value).startswith(f"{toys / 'stale_table'} is not published: self_check: ")
    assert "\n" not in str(refused.value)
    assert version_numbers(base) == [1]
    assert leftovers(base) == []


def test_another_contract_takes_the_place_of_a_live_version_only_if_it_is_allowed(toys, tmp_path):
    base = tmp_path / "models"
    first = publish(toys / "good", base)
    other = shutil.copytree(toys / "good", tmp_path / "other")
    schema = other / "assets.extra/schema.yaml"
    schema.write_text(schema.read_text().replace("boundaries: [1, 2, 3]", "boundaries: [1, 2, 4]"))
    with pytest.raises(
        PublishError, match=r"is not published: contract: another one than that of version \d+: its fea"
    ):
        publish(other, base)
    assert version_numbers(base) == [int(first.name)]
    second = publish(other, base, limits=Limits(allow_new_contract=True, allow_unchecked=("auc",)))
    assert version_numbers(base) == [int(first.name), int(second.name)]


def test_an_unchecked_version_is_published_with_a_word(toys, tmp_path, caplog):
    base, model = tmp_path / "models", shutil.copytree(toys / "good", tmp_path / "model")
    publish(model, base)
    with np.load(model / "assets.extra/probes.npz") as file:
        unlabelled = {name: array for name, array in file.items() if name != "expected/label"}
    np.savez(model / "assets.extra/probes.npz", **unlabelled)
    with pytest.raises(
        PublishError, match="auc: not compared: its probes carry no labels; .* --allow-unchecked auc lets"
    ):
        publish(model, base)
    publish(model, base, limits=Limits(allow_unchecked=("auc",)))
    assert "auc: not compared: its probes carry no labels" in caplog.text


def test_what_is_no_model_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(PublishError, match="is no model directory: it holds no saved_model.pb$"):
        publish(tmp_path / "nothing", tmp_path / "models")
    with pytest.raises(ValueError, match="keep must be at least 2, not 1: the new version, and the one to go back to"):
        publish(tmp_path / "nothing", tmp_path / "models", keep=1)
    assert not (tmp_path / "models").exists()


def test_one_publisher_at_a_time(toys, tmp_path):
    with (tmp_path / ".publish.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for change in (lambda: publish(toys / "good", tmp_path), lambda: roll_back(tmp_path)):
            with pytest.raises(PublishError, match="another publisher is at work"):
                change()
    assert version_numbers(tmp_path) == []


def test_a_version_that_lost_a_file_never_pushes_out_one_that_can_be_served(toys, tmp_path):
    for number in ("1", "2", "3", "4"):
        shutil.copytree(toys / "good", tmp_path / number)
    for number in ("3", "4"):
        (tmp_path / number / "saved_model.pb").unlink()
    newest = int(publish(toys / "good", tmp_path, keep=2).name)
    assert version_numbers(tmp_path) == [2, 3, 4, newest]
    roll_back(tmp_path)
    assert version_numbers(tmp_path) == [2]
    assert hidden_numbers(tmp_path) == [3, 4, newest]


def test_rolling_back_hides_what_was_newest_and_numbers_go_on(toys, tmp_path):
    base = tmp_path / "models"
    shutil.copytree(toys / "good", base / "1")
    shutil.copytree(toys / "second", base / "2")
    shutil.copytree(toys / "second", base / "5000000000")
    assert roll_back(base) == base / "2"
    assert roll_back(base, to=1) == base / "1"
    assert version_numbers(base) == [1]
    assert contents(base / ".rolled-back-2") == contents(toys / "second")
    with pytest.raises(PublishError, match=r"holds no earlier version to go back to; it has 1$"):
        roll_back(base)
    with pytest.raises(PublishError, match=r"holds no earlier version 7 to go back to; it has 1$"):
        roll_back(base, to=7)
    with pytest.raises(PublishError, match="is no base path"):
        roll_back(base / "nowhere")
    assert 1 < int(publish(toys / "good", base).name) < 5_000_000_000  # the clock's again
    assert hidden_numbers(base) == [2, 5_000_000_000]


def test_rolling_back_passes_over_what_is_damaged(toys, tmp_path):
    good = publish(toys / "good", tmp_path)
    shutil.copytree(toys / "stale_table", tmp_path / "4000000000")
    damaged = publish(toys / "second", tmp_path)
    publish(toys / "good", tmp_path, keep=9)
    path = damaged / "variables/variables.data-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    assert roll_back(tmp_path) == good
    assert version_numbers(tmp_path) == [int(good.name)]
    shutil.copytree(tmp_path / ".rolled-back-4000000002", tmp_path / "4000000002")
    (good / "variables/variables.index").write_bytes(b"")
    with pytest.raises(PublishError) as refused:
        roll_back(tmp_path)
    words = f"holds no sound earlier version; version {good.name}: variables/variables.index has 0 bytes, not"
    assert words in str(refused.value)
    assert version_numbers(tmp_path) == [int(good.name), 4_000_000_002]


def test_a_server_goes_back_without_a_gap(toys, tmp_path):
    first = publish(toys / "good", tmp_path)
    with start_local_server(tmp_path) as server, TwinClient(server.address, timeout_s=PATIENCE_S) as client:
        watcher = ServerCheck(server.address, timeout_s=PATIENCE_S)
        publish(toys / "second", tmp_path, watcher=watcher)
        stop, seen, failures = threading.Event(), [], []

        def ask():
            while not stop.wait(PAUSE_S):
                try:
                    answer = client.call("self_check", {"probe": np.array([1], np.int32)}, ["weights_version"])
                    seen.append(int(answer["weights_version"][0]))
                except ServingError as error:
                    failures.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            assert roll_back(tmp_path, watcher=watcher) == first
            while 1 not in seen and not failures:
                assert asking.is_alive()
                time.sleep(PAUSE_S)
        finally:
            stop.set()
            asking.join()
        assert failures == []
        assert seen == sorted(seen, reverse=True)  # second's weights, then first's, nothing between
        assert set(seen) == {1, 2}


def test_what_the_server_does_not_serve_is_taken_back(toys, place, tmp_path):
    first = publish(toys / "good", tmp_path)
    with start_local_server(tmp_path) as server:
        with pytest.raises(PublishError) as refused:
            publish(toys / "second", tmp_path, watcher=ServerCheck(server.address, "another name", timeout_s=1))
        assert version_numbers(tmp_path) == [int(first.name)]
        (hidden,) = hidden_numbers(tmp_path)
        words = (
            f"version {hidden} is taken back, version {first.name} is the newest again: the server {server.address} "
        )
        assert str(refused.value).startswith(f"{words}does not serve it after 1 s, but says ")
        watcher = ServerCheck(server.address, timeout_s=PATIENCE_S)
        assert refusal(int(first.name), watcher) == ""
        place(toys / "stale_table", tmp_path, 4_000_000_000)
        reason = refusal(4_000_000_000, watcher)
        assert reason.startswith(f"the server {server.address} refuses it: warmup record 1 (self_check): ")


def test_a_killed_publisher_leaves_no_partial_version_and_the_next_cleans_up(toys, tmp_path):
    code = "import sys; from export.publishing.publisher import publish; publish(sys.argv[1], sys.argv[2])"
    command = [sys.executable, "-c", code, str(toys / "good"), str(tmp_path)]
    killed = subprocess.Popen(command, env=child_environment())
    while not list(tmp_path.glob(".incoming-*")):
        assert killed.poll() is None
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert version_numbers(tmp_path) == []
    assert leftovers(tmp_path) != []
    published = publish(toys / "good", tmp_path)
    assert contents(published) == contents(toys / "good")
    assert leftovers(tmp_path) == []
