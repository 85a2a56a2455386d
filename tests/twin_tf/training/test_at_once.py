"""A comparison that does several things at once."""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.twin_tf.built_once import shared_root
from tests.twin_tf.small_run import small_config, small_data
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.experiments.comparison import measurements
from twin_tf.experiments.comparison.latency import SIZES
from twin_tf.experiments.comparison.measurements import Measurements
from twin_tf.experiments.comparison.rates import Rates
from twin_tf.experiments.comparison.run import Comparison
from twin_tf.experiments.comparison.systems import SYSTEMS, chosen_systems
from twin_tf.experiments.subprocess_runner import Steps, processor_shares

pytestmark = pytest.mark.integration


def test_after_a_failure_nothing_more_begins(tmp_path: Path) -> None:
    root = shared_root()
    small_data(root)
    given = (small_config(), str(root / "prepared"), chosen_systems("twin"), (1,), Rates())
    begun: list[int] = []
    failing = threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number == 1:
            failing.set()
            raise ConfigError("number 1")
        failing.wait(10)
        time.sleep(0.2)
        return number

    done = []
    with pytest.raises(ConfigError, match="number 1"):
        for one in Comparison(tmp_path / "two", *given, jobs=2)._at_once(work, range(9)):
            done.append(one)
    assert sorted(begun) == [0, 1] and done == [(0, 0)]
    begun.clear()
    with pytest.raises(ConfigError, match="number 1"):
        list(Comparison(tmp_path / "one", *given)._at_once(work, range(9)))
    assert begun == [0, 1]


@pytest.mark.parametrize(
    ("count", "shares"), [(1, [set()]), (2, [{0, 1}, {4, 5}]), (3, [{0}, {1}, {4}]), (6, [set()] * 6)]
)
def test_processors_are_shared_equally(monkeypatch: pytest.MonkeyPatch, count: int, shares: list[set[int]]) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 4, 5, 6}, raising=False)
    assert processor_shares(count) == shares


def test_a_share_of_the_processors_is_one_process_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3}, raising=False)
    given: list[tuple[int, set[int]]] = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, share: given.append((pid, share)), raising=False)
    steps, nothing = Steps(at_once=2), [sys.executable, "-c", ""]
    with steps.process(nothing) as first, steps.process(nothing) as second:
        pids = [first.pid, second.pid]
    with steps.process(nothing, alone=True), steps.process(nothing) as third:
        pids.append(third.pid)
    assert given == list(zip(pids, [{2}, {3}, {3}], strict=True))


def test_what_was_begun_ends_with_who_began_it() -> None:
    steps, sleep = Steps(at_once=2), [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(KeyboardInterrupt), steps.process(sleep) as process:
        raise KeyboardInterrupt
    assert process.returncode == -signal.SIGTERM
    with steps.process(sleep) as one, steps.process(sleep) as other:
        steps.stop()
    assert one.returncode == other.returncode == -signal.SIGTERM


class Serving(Measurements):
    """Writes and times no model, but notes when it would."""

    asked: tuple[str, ...] = ()

    def _module(self, name: str, *arguments: str, alone: bool = False) -> dict[str, Any]:
        self.asked += (arguments[0],)
        if arguments[0] == "export":
            output = Path(arguments[arguments.index("--output") + 1])
            output.mkdir(parents=True)
            (output / SIZES).write_text("{}")
        return {"p50_ms": 1.0}


def test_a_model_to_be_timed_is_written_once_and_a_half_written_one_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = Serving(tmp_path, "prepared", None, 40, True, Steps(at_once=2), "of these data")
    twin, din = SYSTEMS["twin"], SYSTEMS["din"]
    runs = ["elsewhere/twin-seed1", "elsewhere/din-seed1"]
    half = serving.serve(twin, runs[0]) / "variables"
    (half.parent / SIZES).unlink()  # it is written last
    half.mkdir()
    serving.asked = ()
    served = [serving.serve(twin, runs[0]), serving.serve(din, runs[1])]
    assert serving.asked == ("export", "export") and not half.exists()
    assert serving.serve(twin, runs[0]) == served[0] and serving.asked == ("export", "export")
    serving.time(twin, runs[0], served[0])
    assert not served[0].exists() and served[1].exists()
    serving.time(twin, runs[0], serving.serve(twin, runs[0]))
    assert serving.asked == ("export", "export", "time")
    assert serving.of(twin, runs[0]) is None  # its search was not looked at
    serving.look(twin, runs[0])
    assert serving.of(twin, runs[0]) == {"ground_truth": None, "p50_ms": 1.0, "latency": {"p50_ms": 1.0}}
    assert serving.of(din, runs[1]) is None
    other = Serving(tmp_path, "prepared", None, 41, True, Steps(at_once=2), "of these data")
    assert other.of(twin, runs[0]) is None, "more records are another measurement"
    monkeypatch.setattr(measurements, "code_digest", lambda *_: "of other code")
    assert serving.of(twin, runs[0]) is None
