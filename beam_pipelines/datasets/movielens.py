r"""MovieLens 1M, 20M and 25M (GroupLens): people rate films.

Formats, from the README that GroupLens publishes beside each:

* 1M: `ratings.dat` (UserID::MovieID::Rating::Timestamp), `movies.dat` (MovieID::Title::Genres) and `users.dat`
  (UserID::Gender::Age::Occupation::Zip-code), without header lines, in latin-1.
* 20M, 25M: `ratings.csv` (userId,movieId,rating,timestamp) and `movies.csv` (movieId,title,genres), with header lines,
  fields with a comma quoted, in UTF-8. Links, tags and the tag genome are not read.

Made a click task: every rating is a target, and `label` is 1 if it is 4 or more. The history is every earlier rating,
its value a cross feature. A film's features are the year that ends its title and its first genre (`genres` keeps all).
"""

from collections.abc import Iterable

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


def _writer(layouts: dict[str, Layout]) -> Write:
    def write(logs: RawLogs, files: Iterable[SourceFile], seed: int) -> None:
        for file in files:
            for table in read_rows(file, layouts[file.name], logs):
                if file.name.startswith("ratings."):
                    logs.write("events", _events(table))
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
    year = pc.struct_field(pc.extract_regex(movies["title"], _YEAR), "year").cast(pa.int64())
    genres = pc.if_else(pc.equal(movies["genres"], NO_GENRES), pa.scalar(None, pa.string()), movies["genres"])
    return pa.table(
        {
            "movie_id": movies["movieId"],
            "title": movies["title"],
            "year": year,
            "genre": pc.list_element(pc.split_pattern(genres, "|"), 0),
            "genres": genres,
        }
    )


def _dataset(size: str, layouts: dict[str, Layout]) -> PublicDataset:
    page = f"https://grouplens.org/datasets/movielens/{size}/"
    return PublicDataset(f"MovieLens {size.upper()}", _writer(layouts), page, f"ml-{size}.zip", tuple(layouts))


DATASETS = {
    "movielens_1m": _dataset("1m", DAT_LAYOUTS),
    "movielens_20m": _dataset("20m", CSV_LAYOUTS),
    "movielens_25m": _dataset("25m", CSV_LAYOUTS),
}
