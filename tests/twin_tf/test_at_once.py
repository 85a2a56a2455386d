"""A comparison that does several things at once."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.twin_tf.small_run import shared_root, small_config, small_data
from twin_tf.command_steps import Steps, processor_shares
from twin_tf.comparison.latency import SIZES
from twin_tf.comparison.rates import Rates
from twin_tf.comparison.run import Comparison
from twin_tf.comparison.systems import chosen_systems
from twin_tf.strict_yaml import ConfigError


def test_after_a_failure_nothing_more_begins(tmp_path: Path) -> None:
    root = shared_root()
    small_data(root)
    given = (small_config(), str(root / "prepared"), chosen_systems("twin"), (1,), Rates((1.0,)))
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
    steps = Steps(at_once=2)
    with steps.share() as first, steps.share() as second:
        first(11)
        second(12)
    with steps.share() as again:
        again(13)
    assert given == [(11, {2}), (12, {3}), (13, {3})]


class Serving(Comparison):
    """Writes and times no model, but notes when it would."""

    def _module(self, module: str, *arguments: str, give: Any = None) -> dict[str, Any]:
        self.asked = [*getattr(self, "asked", []), arguments[0] if arguments[0] == "export" else "time"]
        if arguments[0] == "export":
            output = Path(arguments[arguments.index("--output") + 1])
            output.mkdir(parents=True)
            (output / SIZES).write_text("{}")
        return {"p50_ms": 1.0}


def test_a_model_to_be_timed_is_written_once_and_a_half_written_one_again(tmp_path: Path) -> None:
    root = shared_root()
    small_data(root)
    comparison = Serving(
        tmp_path, small_config(), str(root / "prepared"), chosen_systems("twin"), (1,), Rates((1.0,)), jobs=2
    )
    half = tmp_path / "served" / "twin-seed1" / "variables"
    half.mkdir(parents=True)
    runs = ["elsewhere/twin-seed1", "elsewhere/din-seed1"]
    served = [model for _, model in comparison._at_once(comparison._served, runs)]
    assert comparison.asked == ["export", "export"] and not half.exists()
    assert comparison._served(runs[0]) == served[0] and comparison.asked == ["export", "export"]
    assert comparison._latency(runs[0], served[0]) == {"p50_ms": 1.0} and not served[0].exists() and served[1].exists()
    comparison._served(runs[0])
    assert comparison._latency(runs[0], served[0]) == {"p50_ms": 1.0} and comparison.asked == ["export"] * 2 + ["time"]
