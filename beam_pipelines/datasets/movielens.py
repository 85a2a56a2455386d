r"""MovieLens 100K, 1M, 20M, 25M and latest-small (GroupLens): people rate films.

Formats, from the README that GroupLens publishes beside each:

* 100K: `u.data` (user id, item id, rating, timestamp, between tabs), `u.item` (movie id|title|release date|video
  release date|IMDb URL, and a 0 or 1 for each of 19 genres) and `u.user` (user id|age|gender|occupation|zip code),
  without header lines, in latin-1. The splits in the same archive (`u1.base`, ...) are not read.
* 1M: `ratings.dat` (UserID::MovieID::Rating::Timestamp), `movies.dat` (MovieID::Title::Genres) and `users.dat`
  (UserID::Gender::Age::Occupation::Zip-code), without header lines, in latin-1.
* 20M, 25M, latest-small: `ratings.csv` (userId,movieId,rating,timestamp) and `movies.csv` (movieId,title,genres), with
  header lines, fields with a comma quoted, in UTF-8. Links, tags and the tag genome are not read.

Made a click task: every rating is a target, and `label` is 1 if it is 4 or more. The history is every earlier rating,
its value a cross feature. A film's features are the year that ends its title (in 100K, if there is none, that of its
release date) and its first genre (`genres` keeps all).
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines.datasets.delimited_text import Layout, read_rows
from beam_pipelines.datasets.log_writer import RawLogs
from beam_pipelines.datasets.public_dataset import PublicDataset, Write
from beam_pipelines.datasets.source_files import SourceFile
from twin_tf.features.schema import ValueType

CLICK_FROM = 4.0
NO_GENRES = "(no genres listed)"
_YEAR = r"\((?P<year>\d{4})(?:[-\x{2013}]\d{0,4})?\s*\)\s*$"  # `(1995)`; of a series `(2009-2012)` or `(2009-)`

_HALF_STARS = tuple(half / 2 for half in range(1, 11))
_RATING: dict[str, ValueType] = {"userId": "int", "movieId": "int", "rating": "float", "timestamp": "int"}
_MOVIE: dict[str, ValueType] = {"movieId": "int", "title": "string", "genres": "string"}

CSV_LAYOUTS = {
    "ratings.csv": Layout(_RATING, tuple(_RATING), {"rating": _HALF_STARS}),
    "movies.csv": Layout(_MOVIE, ("movieId",)),
}
DAT_LAYOUTS = {
    "ratings.dat": Layout(
        _RATING, tuple(_RATING), {"rating": (1.0, 2.0, 3.0, 4.0, 5.0)}, tuple(_RATING), "::", "latin-1"
    ),
    "movies.dat": Layout(_MOVIE, ("movieId",), {}, tuple(_MOVIE), "::", "latin-1"),
    "users.dat": Layout(
        {"user_id": "int", "gender": "string", "age": "int", "occupation": "int", "zip_code": "string"},
        ("user_id",),
        {},
        ("user_id", "gender", "age", "occupation", "zip_code"),
        "::",
        "latin-1",
    ),
}
GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_ITEM_100K = ("movieId", "title", "release_date", "video_release_date", "imdb_url", *GENRES_100K)
_USER_100K = ("user_id", "age", "gender", "occupation", "zip_code")
LAYOUTS_100K = {
    "u.data": Layout(_RATING, tuple(_RATING), {"rating": (1.0, 2.0, 3.0, 4.0, 5.0)}, tuple(_RATING), "\t", "latin-1"),
    "u.item": Layout(
        {"movieId": "int", "title": "string", "release_date": "string", **dict.fromkeys(GENRES_100K, "int")},
        ("movieId", *GENRES_100K),
        dict.fromkeys(GENRES_100K, (0, 1)),
        _ITEM_100K,
        "|",
        "latin-1",
    ),
    "u.user": Layout(
        {name: "int" if name in ("user_id", "age") else "string" for name in _USER_100K},
        ("user_id",),
        {},
        _USER_100K,
        "|",
        "latin-1",
    ),
}


def _writer(layouts: dict[str, Layout]) -> Write:
    def write(logs: RawLogs, files: Iterable[SourceFile], seed: int) -> None:
        for file in files:
            for table in read_rows(file, layouts[file.name], logs):
                if file.name in ("u.data", "ratings.dat", "ratings.csv"):
                    logs.write("events", _events(table))
                elif file.name == "u.item":
                    logs.write("items", _films_100k(table))
                elif file.name.startswith("movies."):
                    logs.write("items", _movies(table))
                else:
                    logs.write("users", table)

    return write


def _events(ratings: pa.Table) -> pa.Table:
    return pa.table(
        {
            "user_id": ratings["userId"],
            "movie_id": ratings["movieId"],
            "timestamp": ratings["timestamp"],
            "label": pc.greater_equal(ratings["rating"], CLICK_FROM).cast(pa.int64()),
            "rating": ratings["rating"],
        }
    )


def _movies(movies: pa.Table) -> pa.Table:
    year = _year(movies["title"], _YEAR)
    genres = pc.if_else(pc.equal(movies["genres"], NO_GENRES), pa.scalar(None, pa.string()), movies["genres"])
    return _items(movies, year, genres)


def _films_100k(films: pa.Table) -> pa.Table:
    year = pc.coalesce(_year(films["title"], _YEAR), _year(films["release_date"], r"-(?P<year>\d{4})$"))
    flags = np.column_stack([films[genre].to_numpy() for genre in GENRES_100K]) == 1
    flags[:, 0] = False  # "unknown" says that there is none
    texts = ["|".join(genre for genre, has in zip(GENRES_100K, row, strict=True) if has) or None for row in flags]
    genres = pa.array(texts, pa.string())
    return _items(films, year, genres)


def _items(films: pa.Table, year: pa.ChunkedArray, genres: pa.Array | pa.ChunkedArray) -> pa.Table:
    return pa.table(
        {
            "movie_id": films["movieId"],
            "title": films["title"],
            "year": year,
            "genre": pc.list_element(pc.split_pattern(genres, "|"), 0),
            "genres": genres,
        }
    )


def _year(texts: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray:
    return pc.struct_field(pc.extract_regex(texts, pattern), "year").cast(pa.int64())


def _dataset(size: str, layouts: dict[str, Layout]) -> PublicDataset:
    page = f"https://grouplens.org/datasets/movielens/{size.removesuffix('-small')}/"
    title = f"MovieLens {size.upper() if size[0].isdigit() else size}"
    return PublicDataset(title, _writer(layouts), page, f"ml-{size}.zip", tuple(layouts))


DATASETS = {
    "movielens_100k": _dataset("100k", LAYOUTS_100K),
    "movielens_latest_small": _dataset("latest-small", CSV_LAYOUTS),
    "movielens_1m": _dataset("1m", DAT_LAYOUTS),
    "movielens_20m": _dataset("20m", CSV_LAYOUTS),
    "movielens_25m": _dataset("25m", CSV_LAYOUTS),
}
