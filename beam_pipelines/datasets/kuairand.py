"""KuaiRand-Pure, -1K and -27K (Kuaishou): impressions of a video app, some of them of videos shown at random.

Format, from the data set's README: CSV with header lines; `log_standard_4_08_to_4_21_*`, `log_standard_4_22_to_5_08_*`
(of 27K in parts, `_part1`, `_part2`) and `log_random_4_22_to_5_08_*` hold the impressions, `user_features_*` the users,
`video_features_basic_*` the videos. The daily statistics of the videos are not read: they look into the future.

Made a click task: every impression is a target with the label `is_click`, the history is the clicked ones. All logs go
together; `exposure` says from which (`standard` or `random`) a row is. `completion` is play time by duration. The first
of a video's tags is its `tag` (`tags` keeps all). `date` and `hourmin` only repeat `time_ms` in Beijing time, and
`is_rand` the exposure: they are left out.
"""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from beam_pipelines.datasets.delimited_text import Layout, read_rows
from beam_pipelines.datasets.log_writer import RawLogs
from beam_pipelines.datasets.public_dataset import PublicDataset
from beam_pipelines.datasets.source_files import SourceFile
from twin_tf.features.schema import ValueType

_SIGNALS = ("is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view", "is_profile_enter")
_AMOUNTS = ("play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time")
_EVENT_COLUMNS = ("user_id", "video_id", "time_ms", "is_click", *_SIGNALS, *_AMOUNTS, "tab")
_RANGES = ("follow_user_num_range", "fans_user_num_range", "friend_user_num_range", "register_days_range")
_USER_TYPES: dict[str, ValueType] = {
    "user_id": "int",
    "user_active_degree": "string",
    "is_lowactive_period": "int",
    "is_live_streamer": "int",
    "is_video_author": "int",
    **dict.fromkeys(_RANGES, "string"),
    **{f"onehot_feat{number}": "int" for number in range(18)},
}
_VIDEO_TYPES: dict[str, ValueType] = {
    "video_id": "int",
    "author_id": "int",
    "video_type": "string",
    "upload_dt": "string",
    "upload_type": "string",
    "video_duration": "float",
    "music_id": "int",
    "music_type": "int",
    "tag": "string",
}

LOG = Layout(dict.fromkeys(_EVENT_COLUMNS, "int"), _EVENT_COLUMNS[:4], {"is_click": (0, 1)})
USERS = Layout(_USER_TYPES, ("user_id",))
VIDEOS = Layout(_VIDEO_TYPES, ("video_id",))


def write_kuairand(logs: RawLogs, files: Iterable[SourceFile], seed: int) -> None:
    """Writes the logs; nothing is drawn, so the seed changes nothing."""
    for file in files:
        if file.name.startswith("log_"):
            exposure = file.name.split("_")[1]
            for table in read_rows(file, LOG, logs):
                logs.write("events", _events(table, exposure))
        elif file.name.startswith("user_"):
            for table in read_rows(file, USERS, logs):
                logs.write("users", table)
        else:
            for table in read_rows(file, VIDEOS, logs):
                logs.write("items", _videos(table))


def _events(rows: pa.Table, exposure: str) -> pa.Table:
    duration = rows["duration_ms"].cast(pa.float64(), safe=False)
    known = pc.if_else(pc.greater(duration, 0), duration, pa.scalar(None, pa.float64()))
    completion = pc.divide(rows["play_time_ms"].cast(pa.float64(), safe=False), known)
    return rows.append_column("completion", completion).append_column("exposure", pa.repeat(exposure, rows.num_rows))


def _videos(rows: pa.Table) -> pa.Table:
    first = pc.list_element(pc.split_pattern(rows["tag"], ","), 0)
    place = rows.column_names.index("tag")
    return rows.append_column("tags", rows["tag"]).set_column(place, "tag", pc.utf8_trim_whitespace(first))


def _dataset(version: str) -> PublicDataset:
    suffix = version.lower()
    files = (
        f"log_standard_4_08_to_4_21_{suffix}*.csv",
        f"log_standard_4_22_to_5_08_{suffix}*.csv",
        f"log_random_4_22_to_5_08_{suffix}*.csv",
        f"user_features_{suffix}.csv",
        f"video_features_basic_{suffix}.csv",
    )
    name = f"KuaiRand-{version}"
    return PublicDataset(name, write_kuairand, "https://kuairand.com", f"{name}.tar.gz", files)


DATASETS = {f"kuairand_{version.lower()}": _dataset(version) for version in ("Pure", "1K", "27K")}
