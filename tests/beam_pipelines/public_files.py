"""Small made-up files in the exact documented formats of the public data sets, and the archives they come in."""

import csv
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np

LOG_HEADER = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
USER_HEADER = (
    "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,"
    "follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,register_days,"
    "register_days_range," + ",".join(f"onehot_feat{number}" for number in range(18))
)
VIDEO_HEADER = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,server_height,"
    "music_id,music_type,tag"
)
GENRES = ("Action", "Children's", "Comedy", "Drama")

Files = dict[str, bytes]


def movielens_1m(rows: int = 600, seed: int = 3) -> Files:
    """`ml-1m/`: three files without header lines, fields between `::`, latin-1."""
    rng = np.random.default_rng(seed)
    users = "".join(
        f"{user}::{'MF'[user % 2]}::{[1, 18, 25][user % 3]}::{user % 21}::55{user:03d}\n" for user in range(1, 9)
    )
    movies = "".join(
        f"{movie}::Amélie {movie}: the film ({1950 + movie})::{'|'.join(GENRES[: 1 + movie % 4])}\n"
        for movie in range(1, 41)
    )
    ratings = "".join(
        f"{rng.integers(1, 9)}::{rng.integers(1, 41)}::{rng.integers(1, 6)}::{978300000 + 5000 * row}\n"
        for row in range(rows)
    )
    files = {"users.dat": users, "movies.dat": movies, "ratings.dat": ratings, "README": "read me"}
    return {f"ml-1m/{name}": text.encode("latin-1") for name, text in files.items()}


def movielens_100k(rows: int = 600, seed: int = 3) -> Files:
    """`ml-100k/`: `u.data` with tabs, `u.item` and `u.user` with bars, latin-1, beside files that are not read."""
    rng = np.random.default_rng(seed)
    users = "".join(
        f"{user}|{20 + user}|{'MF'[user % 2]}|{('technician', 'other', 'writer')[user % 3]}|85{user:03d}\n"
        for user in range(1, 9)
    )
    films = ""
    for film in range(1, 41):
        flags = "|".join(str(int(rng.integers(0, 5) == 0)) for _ in range(19))
        films += (
            f"{film}|Amélie {film} ({1950 + film})|01-Jan-{1950 + film}||http://us.imdb.com/M/title?{film}|{flags}\n"
        )
    ratings = "".join(
        f"{rng.integers(1, 9)}\t{rng.integers(1, 41)}\t{rng.integers(1, 6)}\t{881250949 + 5000 * row}\n"
        for row in range(rows)
    )
    files = {"u.user": users, "u.item": films, "u.data": ratings, "u1.base": ratings[:300], "u.genre": "unknown|0\n"}
    return {f"ml-100k/{name}": text.encode("latin-1") for name, text in files.items()}


def movielens_csv(size: str, rows: int = 600, seed: int = 3) -> Files:
    """`ml-20m/`, `ml-25m/`, `ml-latest-small/`: CSV, header lines, quoted titles, and files that are not read."""
    rng = np.random.default_rng(seed)
    movies = io.StringIO()
    writer = csv.writer(movies, lineterminator="\n")
    writer.writerow(("movieId", "title", "genres"))
    for movie in range(1, 41):
        genres = "(no genres listed)" if movie % 9 == 0 else "|".join(GENRES[: 1 + movie % 4])
        writer.writerow((movie, f'Film, The "{movie}" ({1950 + movie})', genres))
    ratings = "userId,movieId,rating,timestamp\n" + "".join(
        f"{rng.integers(1, 9)},{rng.integers(1, 41)},{rng.integers(1, 11) / 2},{1112486027 + 5000 * row}\n"
        for row in range(rows)
    )
    files = {
        "movies.csv": movies.getvalue(),
        "ratings.csv": ratings,
        "links.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n",
        "tags.csv": "userId,movieId,tag,timestamp\n18,4141,Mark Waters,1240597180\n",
    }
    return {f"ml-{size}/{name}": text.encode() for name, text in files.items()}


def kuairand(version: str, rows: int = 300, seed: int = 3) -> Files:
    """`KuaiRand-Pure/data/`, `KuaiRand-1K/data/` or `KuaiRand-27K/data/` (logs in parts)."""
    rng = np.random.default_rng(seed)
    suffix = version.lower()
    parts = ("_part1", "_part2") if version == "27K" else ("",)
    logs = [f"log_standard_{days}_{suffix}{part}.csv" for days in ("4_08_to_4_21", "4_22_to_5_08") for part in parts]
    files = {}
    for number, name in enumerate([*logs, f"log_random_4_22_to_5_08_{suffix}.csv"]):
        lines = [LOG_HEADER]
        for row in range(rows):
            time = 1649350000000 + 3_600_000 * row + 86_400_000 * 14 * ("4_22" in name) + number
            click, play, duration = rng.integers(0, 2), rng.integers(0, 60_000), rng.integers(0, 9) * 5000
            lines.append(
                f"{rng.integers(0, 8)},{rng.integers(0, 40)},20220408,{row % 24 * 100},{time},{click},0,0,0,0,0,"
                f"{click},{play},{duration},0,0,0,{int('random' in name)},{rng.integers(0, 15)}"
            )
        files[name] = "\n".join(lines) + "\n"
    onehot = ",".join(["0", "2", "17", "638", "", "9", "1", "6", "241", "5", "4", "3", "0.0", "0", "0", "0", "0", "0"])
    files[f"user_features_{suffix}.csv"] = "\n".join(
        [USER_HEADER]
        + [f'{user},full_active,0,0,1,5,"(0,10]",312,"[100,1k)",0,0,3624,730+,{onehot}' for user in range(8)]
    )
    files[f"video_features_basic_{suffix}.csv"] = "\n".join(
        [VIDEO_HEADER]
        + [
            f"{video},{video % 7},{'AD' if video == 3 else 'NORMAL'},2020-07-08,ShortImport,1,{5000.0 + 900 * video},"
            f'720,1280,98920646{video % 5},4,"{video % 6},65"'
            for video in range(40)
        ]
    )
    files[f"video_features_statistic_{suffix}.csv"] = "video_id,counts\n0,66\n"
    root = f"KuaiRand-{version}"
    return {f"{root}/data/{name}": text.encode() for name, text in files.items()} | {f"{root}/load_data.py": b"#\n"}


def taobao(rows: int = 2000, seed: int = 3, users: int = 12, items: int = 60) -> Files:
    """`UserBehavior.csv`: no header line; nine days, and a few rows of other years as the real file has."""
    rng = np.random.default_rng(seed)
    user = rng.integers(1, users + 1, rows)
    item = rng.integers(1, items + 1, rows)
    kind = rng.choice(("pv", "buy", "cart", "fav"), rows, p=(0.85, 0.05, 0.06, 0.04))
    time = rng.integers(1511539200, 1512316800, rows)
    time[::97] = 1_500_000_000
    lines = [f"{u},{i},{1000 + i % 7},{k},{t}\n" for u, i, k, t in zip(user, item, kind, time, strict=True)]
    return {"UserBehavior.csv": "".join(lines).encode()}


PUBLIC_FILES = {
    "movielens_100k": movielens_100k(),
    "movielens_latest_small": movielens_csv("latest-small"),
    "movielens_1m": movielens_1m(),
    "movielens_20m": movielens_csv("20m"),
    "movielens_25m": movielens_csv("25m"),
    "kuairand_pure": kuairand("Pure"),
    "kuairand_1k": kuairand("1K"),
    "kuairand_27k": kuairand("27K"),
    "taobao": taobao(),
}


def zipped(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: Files) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def unpacked(path: Path, files: Files) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def as_shipped(name: str, directory: Path, files: Files | None = None) -> Path:
    """The data set as its publisher ships it: KuaiRand as tar.gz, the others as zip."""
    files = PUBLIC_FILES[name] if files is None else files
    if name.startswith("kuairand"):
        return tarred(directory / f"{name}.tar.gz", files)
    return zipped(directory / f"{name}.zip", files)
