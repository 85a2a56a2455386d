"""Records with clustered histories: no target sees a cluster that knows anything later, and nothing gets lost."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.clustering.cluster_records import RecordClusterer, clustered_widths, clustering_moments
from tests.beam_pipelines.clustering.test_cluster_user import ITEMS, behaviours, clusterer, schema
from twin_tf.config import ClusterConfig
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.records import format as keys
from twin_tf.records.format import Counts, Manifest, SplitTimes
from twin_tf.records.packing import float_bits, pack, unpack

ORIGIN, LAST, DAY = 1_700_000_000, 1_702_592_000, 86_400
SCHEMA = schema()
COUNTS = Counts(0, 0, 0, 0, 0, 0, 0, {})
WIDTHS = {
    **{"history/item": 2, "history/time": 4, "history/share": 1, "history/place": 1, "value/share": 4},
    **{"target/item": 2, "target/time": 4, "target/label": 1, "target/history_end": 4, "pending/place": 1},
    "target/request": 8,
}
SPLIT = SplitTimes(ORIGIN + 20 * DAY, ORIGIN + 25 * DAY)
Visible = list[tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class LongManifest(Manifest):
    """A manifest whose schema is at hand."""

    @property
    def schema(self) -> Any:  # type: ignore[override]
        return SCHEMA


MANIFEST = LongManifest("", SPLIT, COUNTS, {}, {}, WIDTHS, ORIGIN, LAST)


def make_record(times: np.ndarray, targets: np.ndarray, seed: int, user: int = 7, **changes: Any) -> dict[str, Any]:
    """A raw record of behaviours and targets at rising times."""
    history = behaviours(len(times), seed)
    generator = np.random.default_rng(seed)
    ends = np.searchsorted(times, targets, side="left")
    columns = {
        "history/item": history.item, "history/time": times - ORIGIN, "history/share": history.cross["share"],
        "history/place": history.cross["place"], "value/share": float_bits(history.number["share"]),
        "target/item": generator.integers(1, ITEMS, len(targets)), "target/time": targets - ORIGIN,
        "target/label": np.arange(len(targets)) % 2, "target/history_end": ends,
        "target/request": generator.integers(1, 1 << 62, len(targets)),
    }  # fmt: skip
    packed = {key: pack(column.astype(np.int64), WIDTHS[key]) for key, column in columns.items()}
    return {"user/id": user, "history/length": len(times), "target/length": len(targets), **packed, **changes}


def cut(record: dict[str, Any], behaviours: slice, targets: slice) -> dict[str, Any]:
    """The record with some of its behaviours and targets."""
    found = dict(record)
    for key, width in WIDTHS.items():
        if key in record:
            part = targets if key.startswith("target/") else behaviours
            found[key] = record[key][part.start * width : part.stop * width]
    ends = unpack(found["target/history_end"], 4) - behaviours.start
    lengths = {"history/length": behaviours.stop - behaviours.start, "target/length": targets.stop - targets.start}
    return {**found, **lengths, "target/history_end": pack(ends, 4)}


def compress(records: list[dict[str, Any]], settings: ClusterConfig, length: int = 10_000) -> list[dict[str, Any]]:
    longest = dataclasses.replace(SCHEMA, history=dataclasses.replace(SCHEMA.history, max_length=length))
    made = RecordClusterer(longest, MANIFEST, clusterer(**dataclasses.asdict(settings)), settings)
    found = []
    for record in records:
        for compressed, entries, targets, stands_for in made.compress(record):
            plain = {k: v for k, v in compressed.items() if isinstance(v, int)}
            widths = clustered_widths(MANIFEST, settings)
            plain |= {k: unpack(v, widths[k]) for k, v in compressed.items() if isinstance(v, bytes)}
            assert plain["history/length"] == len(plain["history/item"]) == len(plain["history/count"]) == entries
            assert plain["target/length"] == len(plain["target/item"]) == targets
            assert plain["history/count"].sum() == stands_for
            found.append(plain)
    return found


def seen(records: list[dict[str, Any]]) -> list[tuple[tuple[int, ...], Visible]]:
    """Each target, and the entries that it sees."""
    found = []
    for record in records:
        columns = (record[f"history/{name}"].tolist() for name in ("item", "time", "share", "place", "count"))
        entries = list(zip(*columns, strict=True))
        for place, end in enumerate(record["target/history_end"].tolist()):
            target = tuple(int(record[f"target/{n}"][place]) for n in ("item", "time", "label"))
            found.append((target, entries[:end]))
    return found


moments_of_life = st.lists(st.integers(ORIGIN, LAST), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    times=moments_of_life,
    targets=st.lists(st.integers(ORIGIN, LAST + 5), min_size=1, max_size=8),
    recent=st.sampled_from([0, 3, 50]),
    period=st.sampled_from([0.5, 3.0, 100.0]),
    gamma=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_no_target_sees_anything_of_its_future(
    times: list[int], targets: list[int], recent: int, period: float, gamma: int, seed: int
) -> None:
    """With everything from the target's moment on cut away, the target sees the very same entries."""
    chosen = ClusterConfig(gamma=gamma, recent=recent, period_days=period, completion="share")
    record = make_record(np.sort(times), np.sort(targets), seed)
    all_seen = seen(compress([record], chosen))
    assert len(all_seen) == len(targets)
    ends = unpack(record["target/history_end"], 4)
    for place, (target, entries) in enumerate(all_seen):
        alone = seen(compress([cut(record, slice(0, int(ends[place])), slice(place, place + 1))], chosen))
        assert alone == [(target, entries)]
        assert sum(entry[-1] for entry in entries) == ends[place]
        assert all(entry[1] < target[1] for entry in entries)
        assert [entry[1] for entry in entries] == sorted(entry[1] for entry in entries)


def test_what_came_since_the_last_clustering_and_the_latest_before_it_stay_as_they_are() -> None:
    times = ORIGIN + np.arange(0, 2_500_000, 10_000)
    target = np.array([ORIGIN + 23 * DAY])
    record = make_record(times, target, 3)
    (found,) = compress([record], ClusterConfig(gamma=5, recent=12, period_days=14))
    before, end = int((times < SPLIT.valid_from).sum()), int((times < target[0]).sum())
    alone = 12 + end - before
    assert found["history/count"][-alone:].tolist() == [1] * alone
    assert found["history/item"][-alone:].tolist() == unpack(record["history/item"], 2)[end - alone : end].tolist()
    assert found["history/count"][:-alone].sum() == before - 12
    assert len(found["history/count"]) - alone < (before - 12) / 2
    assert found["target/history_end"].tolist() == [len(found["history/item"])]


def test_a_record_is_cut_where_a_clustering_lies_between_its_targets() -> None:
    times = ORIGIN + np.arange(0, 2_500_000, 10_000)
    targets = ORIGIN + DAY * np.array([1, 7, 19, 20, 24, 25, 29])
    whole = make_record(times, targets, 3)
    found = compress([whole], ClusterConfig(recent=0, period_days=14))
    assert [record["target/length"] for record in found] == [1, 2, 2, 2]
    assert clustering_moments(MANIFEST, ClusterConfig(period_days=14)) == (
        ORIGIN + 6 * DAY, SPLIT.valid_from, SPLIT.test_from, LAST + 1,
    )  # fmt: skip
    assert found[0]["history/count"].max() == 1  # nothing was clustered before the first moment
    assert np.concatenate([record["target/time"] for record in found]).tolist() == (targets - ORIGIN).tolist()
    requests = np.concatenate([record["target/request"] for record in found])
    assert requests.tolist() == unpack(whole["target/request"], 8).tolist()


def test_a_behaviour_at_the_moment_of_a_clustering_is_not_part_of_it() -> None:
    times = np.sort(np.r_[ORIGIN + np.arange(0, 20 * DAY, 40_000), [SPLIT.valid_from] * 3])
    record = make_record(times, np.array([SPLIT.valid_from + 1]), 3)
    (found,) = compress([record], ClusterConfig(gamma=5, recent=0, period_days=14))
    assert found["history/time"][-3:].tolist() == [SPLIT.valid_from - ORIGIN] * 3
    assert found["history/count"][-3:].tolist() == [1] * 3
    assert found["history/time"][:-3].max() < SPLIT.valid_from - ORIGIN and found["history/count"].max() > 1


def test_a_users_records_share_a_clustering_and_another_users_do_not() -> None:
    times = ORIGIN + np.arange(0, 2_500_000, 10_000)
    targets = ORIGIN + DAY * np.array([21, 22, 23, 24])
    whole = make_record(times, targets, 3)
    chosen = ClusterConfig(recent=4, period_days=14)
    first, second = (cut(whole, slice(start, 249), part) for start, part in ((0, slice(0, 2)), (30, slice(2, 4))))
    together = seen(compress([first, second], chosen))
    assert together == seen(compress([whole], chosen))
    other = {**second, "user/id": 8}
    assert seen(compress([first, other], chosen))[2:] == seen(compress([other], chosen)) != together[2:]


def test_no_more_than_the_longest_history_is_clustered() -> None:
    times = ORIGIN + np.arange(0, 2_500_000, 10_000)
    record = make_record(times, np.array([ORIGIN + 25 * DAY]), 3)
    (found,) = compress([record], ClusterConfig(recent=4), length=100)
    assert found["history/count"].sum() == 100


def test_latest_histories_are_clustered_to_their_end() -> None:
    times = np.sort(np.random.default_rng(1).integers(ORIGIN, LAST + 1, 90))
    record = make_record(times, np.zeros(0, np.int64), 3, **{"history/total": 123, "pending/place": bytes(90)})
    (found,) = compress([record], ClusterConfig(gamma=4, recent=10))
    assert found["history/count"].sum() == 90 and found["history/count"][-10:].tolist() == [1] * 10
    assert found["history/total"] == 123
    assert not {"pending/place", keys.value_key("share")} & set(found)
    (nobody,) = compress([make_record(times[:0], times[:0], 3)], ClusterConfig())
    assert nobody["history/length"] == 0


@pytest.mark.parametrize(
    "wrong",
    [{"period_days": 0.01}, {"period_days": 1e306}, {"exponent": 0.9}, {"exponent": 0.0}, {"gamma": 0},
     {"gamma": 10**7}, {"groups": 0}, {"recent": -1}, {"seed": -1}],
)  # fmt: skip
def test_settings_that_make_no_clusters_are_one_sentence(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must"):
        ClusterConfig(**wrong)


def test_sizes_beyond_a_byte_are_kept_whole() -> None:
    times = ORIGIN + np.arange(0, 2_500_000, 2_500)
    record = make_record(times, np.array([ORIGIN + 25 * DAY]), 3)
    record["history/item"] = pack(np.full(len(times), 7), 2)
    (found,) = compress([record], ClusterConfig(recent=4, gamma=300))
    before = int((times < SPLIT.test_from).sum())
    assert found["history/count"].sum() == before and found["history/count"].max() > 255
