"""Each documented format, a handful of rows written literally, every resulting column asserted."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from public_files import LOG_HEADER, USER_HEADER, VIDEO_HEADER, taobao, unpacked, zipped

from beam_pipelines.datasets.negatives import draw_unseen
from beam_pipelines.datasets.taobao import PART_BYTES, ItemCounts
from beam_pipelines.import_dataset import ImportReport, import_dataset
from twin_tf.core.dataclass_yaml import ConfigError

NONE = None


def imported(name: str, tmp_path: Path, files: dict[str, str], encoding: str = "utf-8") -> ImportReport:
    source = unpacked(tmp_path / "source", {file: text.encode(encoding) for file, text in files.items()})
    return import_dataset(name, tmp_path / "raw", source=source, progress=False)


def columns(path: str | None) -> dict[str, list[Any]]:
    assert path is not None
    return pq.read_table(path).to_pydict()


def books(report: ImportReport) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path(report.directory) / "import.json").read_text())
    return content


def test_movielens_1m(tmp_path: Path) -> None:
    files = {
        "ratings.dat": "1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n",
        "movies.dat": "1193::One Flew Over the Cuckoo's Nest (1975)::Drama\n"
        "661::Misérables, Les (1995)::Children's|Musical\n"
        "3::Star Wars: Episode IV (1977)::Action\n",
        "users.dat": "1::F::1::10::48067\n2::M::56::16::70072-1234\n",
    }
    report = imported("movielens-1m", tmp_path, files, "latin-1")
    assert columns(report.events()) == {
        "user_id": [1, 1, 2],
        "movie_id": [1193, 661, 1193],
        "timestamp": [978300760, 978302109, 978298413],
        "label": [1, 0, 1],
        "rating": [5.0, 3.0, 4.0],
    }
    assert columns(report.items()) == {
        "movie_id": [1193, 661, 3],
        "title": ["One Flew Over the Cuckoo's Nest (1975)", "Misérables, Les (1995)", "Star Wars: Episode IV (1977)"],
        "year": [1975, 1995, 1977],
        "genre": ["Drama", "Children's", "Action"],
        "genres": ["Drama", "Children's|Musical", "Action"],
    }
    assert columns(report.users()) == {
        "user_id": [1, 2],
        "gender": ["F", "M"],
        "age": [1, 56],
        "occupation": [10, 16],
        "zip_code": ["48067", "70072-1234"],
    }
    assert books(report)["files"]["ratings.dat"] == {"read": 3, "written": 3, "dropped": {}}


def test_movielens_100k(tmp_path: Path) -> None:
    flags = {"Toy Story (1995)": (3, 4, 5), "unknown": (0,), "GoldenEye (1995) (V)": (1, 2, 16), "Amélie (1997)": ()}
    dates = ["01-Jan-1995", "", "01-Feb-1996", "01-Jan-1998"]
    films = "".join(
        f"{number}|{title}|{date}||http://us.imdb.com/M|{'|'.join(str(int(place in on)) for place in range(19))}\n"
        for number, ((title, on), date) in enumerate(zip(flags.items(), dates, strict=True), 1)
    )
    files = {
        "u.data": "196\t1\t3\t881250949\n186\t2\t4\t891717742\n",
        "u.item": films,
        "u.user": "196|24|M|technician|85711\n186|53|F|other|T8H1N\n",
        "u1.base": "1\t1\t5\t874965758\n",
    }
    report = imported("movielens-100k", tmp_path, files, "latin-1")
    assert columns(report.events()) == {
        "user_id": [196, 186],
        "movie_id": [1, 2],
        "timestamp": [881250949, 891717742],
        "label": [0, 1],
        "rating": [3.0, 4.0],
    }
    assert columns(report.items()) == {
        "movie_id": [1, 2, 3, 4],
        "title": list(flags),
        "year": [1995, NONE, 1996, 1997],
        "genre": ["Animation", NONE, "Action", NONE],
        "genres": ["Animation|Children's|Comedy", NONE, "Action|Adventure|Thriller", NONE],
    }
    assert columns(report.users()) == {
        "user_id": [196, 186],
        "age": [24, 53],
        "gender": ["M", "F"],
        "occupation": ["technician", "other"],
        "zip_code": ["85711", "T8H1N"],
    }


@pytest.mark.parametrize("name", ["movielens-20m", "movielens_25m", "movielens-latest-small"])
def test_movielens_with_header_lines(tmp_path: Path, name: str) -> None:
    files = {
        "ratings.csv": "userId,movieId,rating,timestamp\r\n1,2,3.5,1112486027\r\n1,29,4.0,1112484676\r\n",
        "movies.csv": "movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n"
        '11,"American President, The (1995)",Comedy|Drama|Romance\n'
        '2,"""Great Performances"" Cats (1998)",Musical\n'
        "3,Babylon 5,Sci-Fi\n4,Mission 13 (2009– ),(no genres listed)\n5,Blade (2049) Runner (1982) ,Action\n",
        "links.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n",
    }
    report = imported(name, tmp_path, files)
    assert columns(report.events()) == {
        "user_id": [1, 1],
        "movie_id": [2, 29],
        "timestamp": [1112486027, 1112484676],
        "label": [0, 1],
        "rating": [3.5, 4.0],
    }
    assert columns(report.items()) == {
        "movie_id": [1, 11, 2, 3, 4, 5],
        "title": [
            "Toy Story (1995)",
            "American President, The (1995)",
            '"Great Performances" Cats (1998)',
            "Babylon 5",
            "Mission 13 (2009– )",
            "Blade (2049) Runner (1982) ",
        ],
        "year": [1995, 1995, 1998, NONE, 2009, 1982],
        "genre": ["Adventure", "Comedy", "Musical", "Sci-Fi", NONE, "Action"],
        "genres": ["Adventure|Animation", "Comedy|Drama|Romance", "Musical", "Sci-Fi", NONE, "Action"],
    }
    assert report.users() is None
    assert set(books(report)["files"]) == {"ratings.csv", "movies.csv"}


def test_kuairand(tmp_path: Path) -> None:
    onehot = ",".join(str(number) for number in range(4)) + ",," + ",".join(str(number) for number in range(5, 18))
    files = {
        "log_standard_4_08_to_4_21_1k.csv": f"{LOG_HEADER}\n"
        "0,1123453,20220421,400,1650485801301,1,0,1,0,0,0,1,151024,104400,7,8,0,0,1\n",
        "log_standard_4_22_to_5_08_1k.csv": f"{LOG_HEADER}\n"
        "0,5,20220422,1500,1650610000000,0,0,0,0,0,0,0,0,0,0,0,0,0,14\n",
        "log_random_4_22_to_5_08_1k.csv": f"{LOG_HEADER}\n"
        "0,5,20220422,1500,1650610000001,1,1,0,1,0,1,0,3000,12000,0,0,1,1,0\n",
        "user_features_1k.csv": f"{USER_HEADER}\n"
        f'0,full_active,0,0,1,5,"(0,10]",312,"[100,1k)",0,0,3624,730+,{onehot}\n',
        "video_features_basic_1k.csv": f"{VIDEO_HEADER}\n"
        '5,441,NORMAL,2020-07-08,ShortImport,1,17200.0,720,1280,989206467,4,"12,65"\n6,441,AD,,Web,,,,,,,\n',
        "video_features_statistic_1k.csv": "not read",
    }
    report = imported("kuairand-1k", tmp_path, files)
    assert columns(report.events()) == {
        "user_id": [0, 0, 0],
        "video_id": [5, 1123453, 5],
        "time_ms": [1650610000001, 1650485801301, 1650610000000],
        "is_click": [1, 1, 0],
        "is_like": [1, 0, 0],
        "is_follow": [0, 1, 0],
        "is_comment": [1, 0, 0],
        "is_forward": [0, 0, 0],
        "is_hate": [1, 0, 0],
        "long_view": [0, 1, 0],
        "is_profile_enter": [1, 0, 0],
        "play_time_ms": [3000, 151024, 0],
        "duration_ms": [12000, 104400, 0],
        "profile_stay_time": [0, 7, 0],
        "comment_stay_time": [0, 8, 0],
        "tab": [0, 1, 14],
        "completion": [0.25, 151024 / 104400, NONE],
        "exposure": ["random", "standard", "standard"],
    }
    assert columns(report.items()) == {
        "video_id": [5, 6],
        "author_id": [441, 441],
        "video_type": ["NORMAL", "AD"],
        "upload_dt": ["2020-07-08", NONE],
        "upload_type": ["ShortImport", "Web"],
        "video_duration": [17200.0, NONE],
        "music_id": [989206467, NONE],
        "music_type": [4, NONE],
        "tag": ["12", NONE],
        "tags": ["12,65", NONE],
    }
    assert columns(report.users()) == {
        "user_id": [0],
        "user_active_degree": ["full_active"],
        "is_lowactive_period": [0],
        "is_live_streamer": [0],
        "is_video_author": [1],
        "follow_user_num_range": ["(0,10]"],
        "fans_user_num_range": ["[100,1k)"],
        "friend_user_num_range": ["0"],
        "register_days_range": ["730+"],
        **{f"onehot_feat{number}": [NONE if number == 4 else number] for number in range(18)},
    }


def test_taobao_rows_are_behaviours_in_order_of_user_and_time(tmp_path: Path) -> None:
    text = (
        "1,2268318,2520377,pv,1511544070\n1,2333346,2520771,buy,1511539200\n100,2268318,2520377,cart,1512316799\n"
        "100,5,2520771,fav,1512316800\n100,5,2520771,pv,1511539199\n100,6,2520771,pv,-4\n"
    )
    report = imported("taobao", tmp_path, {"UserBehavior.csv": text})
    events = columns(report.events())
    del events["target"]  # of one sound page view, 5 % are targets: none, or this one
    assert {name: values[:3] for name, values in events.items()} == {
        "user_id": [1, 1, 100],
        "item_id": [2333346, 2268318, 2268318],
        "timestamp": [1511539200, 1511544070, 1512316799],
        "label": [1, 1, 1],
        "behavior": ["buy", "pv", "cart"],
    }
    assert columns(report.items()) == {"item_id": [2268318, 2333346], "category": [2520377, 2520771]}
    assert report.users() is None
    outside = {"outside 2017-11-25 to 2017-12-03": 3}
    assert books(report)["files"] == {"UserBehavior.csv": {"read": 6, "written": 3, "dropped": outside}}
    assert report.dropped == outside


@pytest.mark.parametrize("part_bytes", [PART_BYTES, 7000])
def test_taobao_targets_are_page_views_each_with_a_negative_its_user_never_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_bytes: int
) -> None:
    monkeypatch.setattr("beam_pipelines.datasets.taobao.PART_BYTES", part_bytes)
    files = taobao(rows=8000, users=40, items=400)
    report = import_dataset("taobao", tmp_path / "raw", source=zipped(tmp_path / "t.zip", files), progress=False)
    rows = [line.split(",") for line in files["UserBehavior.csv"].decode().splitlines()]
    inside = [(int(u), int(i), int(t), k) for u, i, _, k, t in rows if int(t) > 1_511_000_000]
    events = pq.read_table(report.events()).to_pylist()
    behaviours = [row for row in events if row["label"] == 1]
    negatives = [row for row in events if row["label"] == 0]
    key = [(row["user_id"], row["item_id"], row["timestamp"], row["behavior"]) for row in behaviours]
    assert sorted(key) == sorted(inside)
    targets = [row for row in behaviours if row["target"]]
    assert {row["behavior"] for row in targets} == {"pv"}
    page_views = sum(kind == "pv" for *_, kind in inside)
    assert abs(len(targets) / page_views - 0.05) < 3 * (0.05 * 0.95 / page_views) ** 0.5
    assert [(row["user_id"], row["timestamp"]) for row in negatives] == [
        (row["user_id"], row["timestamp"]) for row in targets
    ]
    touched = {(user, item) for user, item, *_ in inside}
    known = {item for _, item, *_ in inside}
    for row in negatives:
        assert row["target"] == 1
        assert row["behavior"] is None
        assert row["item_id"] in known
        assert (row["user_id"], row["item_id"]) not in touched
    found = books(report)
    assert found["drawn"] == len(negatives)
    assert found["rows"] == {"events": len(inside) + len(negatives), "items": len(known)}
    assert found["files"]["UserBehavior.csv"]["read"] == len(rows)
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == [
        "events.parquet",
        "import.json",
        "items.parquet",
    ]


@pytest.mark.parametrize("scale", [1, 3000])
def test_taobao_negatives_follow_the_popularity_of_the_items(tmp_path: Path, scale: int) -> None:
    """User 1 views item 9 alone; items 1, 2, 3 occur in the ratio 1 : 3 : 6, hardly ever beside it or often."""
    lines = [f"1,9,1,pv,{1511539200 + row}" for row in range(60_000)]
    lines += [f"2,{item},1,buy,1511539200" for item, times in ((1, 1), (2, 3), (3, 6)) for _ in range(scale * times)]
    report = imported("taobao", tmp_path, {"UserBehavior.csv": "\n".join(lines)})
    drawn = pq.read_table(report.events(), filters=[("label", "=", 0)])["item_id"].to_numpy()
    assert len(drawn) > 2500
    shares = np.bincount(drawn, minlength=10)[1:4] / len(drawn)
    np.testing.assert_allclose(shares, [0.1, 0.3, 0.6], atol=0.03)


def test_a_user_who_has_touched_every_item_is_named(tmp_path: Path) -> None:
    lines = [f"7,{row % 3},1,pv,{1511539200 + row}" for row in range(500)]
    with pytest.raises(ConfigError, match="no negative for user 7, who has touched every item there is"):
        imported("taobao", tmp_path, {"UserBehavior.csv": "\n".join(lines)})
    assert not (tmp_path / "raw").exists()


def test_another_seed_chooses_other_targets_and_the_same_seed_the_same_bytes(tmp_path: Path) -> None:
    source = unpacked(tmp_path / "source", taobao())
    events = [
        Path(import_dataset("taobao", tmp_path / str(number), seed, source, progress=False).events()).read_bytes()
        for number, seed in enumerate((7, 7, 8))
    ]
    assert events[0] == events[1] != events[2]


def test_item_counts_do_not_depend_on_when_they_are_merged() -> None:
    rng = np.random.default_rng(2)
    items, categories = rng.integers(0, 50, 1000), rng.integers(0, 5, 1000)
    once, often = ItemCounts(), ItemCounts()
    once.add(items, categories)
    once.merge()
    for start in range(0, 1000, 70):
        often.add(items[start : start + 70], categories[start : start + 70])
        often.merge()
    ids, first, counts = np.unique(items, return_index=True, return_counts=True)
    for counted in (once, often):
        assert counted.ids.tolist() == ids.tolist()
        assert counted.counts.tolist() == counts.tolist()
        assert counted.categories.tolist() == categories[first].tolist()


def test_draws_are_repeated_for_those_alone_that_have_seen_their_item() -> None:
    asked: list[list[int]] = []

    def draw(open_: Any, attempt: int) -> Any:
        asked.append(open_.tolist())
        return np.full(len(open_), attempt)

    seen = np.array([0 * 10 + 0, 0 * 10 + 1, 1 * 10 + 0, 2 * 10 + 5])
    drawn, open_ = draw_unseen(np.array([0, 1, 2]), seen, 10, draw, 2)
    assert asked == [[0, 1, 2], [0, 1]]
    assert drawn.tolist() == [1, 1, 0]
    assert open_.tolist() == [0]
