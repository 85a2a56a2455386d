"""The made-up video app behind `beam_pipelines.simulate_logs`: its videos, its users and what they click.

Videos. Every video has a topic, an author and a style (a unit vector near its author's). Popularity is heavy-tailed;
half of the catalogue appears during the simulated days and is shown more while it is new. The log shows a noisy topic
and never the style: only learned embeddings of videos and authors can tell the halves of a topic apart.

Users. A user has 20 to 36 life-long interests: a topic, a style within it and a life span (some end, some begin
later). Time goes in phases; a phase has two current interests, which most sessions are about, until a new phase brings
others back.

Exposure. The feed follows the session's interest, with popular videos mixed in. Some slots explore instead: half of
them show a video of any interest of the user, past, present or future, the other half a popular video. Within a topic
every policy picks videos by popularity, and interests fall on topics in proportion to the topics' popularity, so
neither a video nor its topic says by itself whether it will be clicked.

Clicks. A video of a living interest is clicked the likelier the nearer its style; an interest that the user sees a lot
of just now is somewhat worn out; anything else is hardly ever clicked. In the feed some clicks are accidents, whatever
is shown. What was clicked without an interest is played briefly.
"""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Generator = np.random.Generator

DAY = 86_400.0
STYLE_SIZE = 4
LATEST_JOIN = 0.15  # users join over this first share of the days
AGE_GROUPS = ("under 18", "18-24", "25-34", "35-49", "50 and over")
DEVICES = ("android", "ios", "tablet", "tv")

_PERIODS = 64  # the shown catalogue changes at most this often
_MOST_INTERESTS = 36
_FEWEST_INTERESTS = 20
_SESSION = 25  # impressions, mean
_ACCIDENT = 0.05  # share of feed slots clicked whatever they show
_PAGE = 8  # slots

# The click's logit.
_MATCHED, _BY_STYLE, _WORN_OUT, _UNMATCHED, _QUALITY, _BY_POSITION = 0.4, 3.5, -1.5, -2.8, 0.2, -0.03


@dataclasses.dataclass(frozen=True)
class Videos:
    """The catalogue, ordered by topic; every array has one row a video.

    Attributes:
        video_id: int64, in no telling order.
        author: int64 author ids.
        topic: the true topic.
        logged_topic: the topic that the item log shows.
        style: `(videos, STYLE_SIZE)` unit vectors.
        duration: seconds.
        quality: added to the click's logit.
        shown: `(periods, videos + 1)` running sums of how much each video is shown in a period.
        topic_start: `(topics + 1,)` first row of each topic.
        topic_weight: `(len(AGE_GROUPS), topics)` how likely an interest of a user of that age falls on a topic.
    """

    video_id: Integers
    author: Integers
    topic: Integers
    logged_topic: Integers
    style: Floats
    duration: Floats
    quality: Floats
    shown: Floats
    topic_start: Integers
    topic_weight: Floats

    @property
    def periods(self) -> int:
        """Number of periods that the simulated days are cut into."""
        return len(self.shown)

    def pick(self, random: Generator, topic: Integers, period: Integers) -> Integers:
        """Draws a row of the topic (any topic where it is -1) in proportion to what the period shows."""
        rows = np.empty(len(topic), np.int64)
        draw = random.random(len(topic))
        for one in range(self.periods):
            at = np.flatnonzero(period == one)
            sums, start = self.shown[one], np.maximum(topic[at], 0)
            low = np.where(topic[at] < 0, 0.0, sums[self.topic_start[start]])
            high = np.where(topic[at] < 0, sums[-1], sums[self.topic_start[start + 1]])
            rows[at] = np.searchsorted(sums, low + draw[at] * (high - low), side="right") - 1
        return np.minimum(rows, len(self.video_id) - 1)


def make_videos(random: Generator, items: int, topics: int, days: int) -> Videos:
    """Makes the catalogue.

    Args:
        random: the source of every choice.
        items: number of videos; at least four a topic.
        topics: number of topics.
        days: simulated days; half of the videos appear during them.
    """
    appeal = np.arange(1, topics + 1) ** -0.4
    share = appeal / appeal.sum()
    topic = np.sort(
        np.concatenate([np.repeat(np.arange(topics), 4), random.choice(topics, items - 4 * topics, p=share)])
    )
    topic_start = np.searchsorted(topic, np.arange(topics + 1))

    authors = max(2 * topics, items // 12)  # an author keeps to one topic, and a few are far more productive than most
    author_topic = np.sort(
        np.concatenate([np.repeat(np.arange(topics), 2), random.choice(topics, authors - 2 * topics, p=share)])
    )
    author_start = np.searchsorted(author_topic, np.arange(topics + 1))
    author_share = random.beta(0.8, 1.6, items)
    width = np.diff(author_start)[topic]
    author = author_start[topic] + np.minimum((author_share * width).astype(np.int64), width - 1)
    style = _unit(
        _unit(random.normal(size=(authors, STYLE_SIZE)))[author] + 0.3 * random.normal(size=(items, STYLE_SIZE))
    )

    periods = min(days, _PERIODS)
    born = np.where(
        random.random(items) < 0.5, -random.integers(0, 4 * periods, items), random.integers(0, periods, items)
    )
    born[np.append(True, np.diff(topic) > 0)] = -periods  # every topic always has something to show
    age = np.arange(periods)[:, None] - born
    appeal = random.lognormal(0.0, 1.0, items)
    # A topic is shown as much as it is liked, however many videos it has.
    weight = np.where(age >= 0, appeal * (0.3 + np.exp(-np.maximum(age, 0) / 8.0)), 0.0)
    sums = np.add.reduceat(weight, topic_start[:-1], axis=1)
    weight *= (share / sums)[:, topic]

    noisy = random.random(items) < 0.1
    logged = np.where(noisy, random.integers(0, topics, items), topic)
    group_taste = random.lognormal(0.0, 0.4, (len(AGE_GROUPS), topics)) * share
    return Videos(
        video_id=random.permutation(np.cumsum(random.integers(1, 50, items)) + 100_000),
        author=random.permutation(np.cumsum(random.integers(1, 20, authors)) + 1_000)[author],
        topic=topic,
        logged_topic=logged,
        style=style,
        duration=np.clip(random.lognormal(3.6, 0.7, items), 5.0, 600.0).round(1),
        quality=_QUALITY * random.normal(size=items),
        shown=np.concatenate([np.zeros((periods, 1)), np.cumsum(weight, axis=1)], axis=1),
        topic_start=topic_start,
        topic_weight=group_taste / group_taste.sum(1, keepdims=True),
    )


@dataclasses.dataclass(frozen=True)
class Users:
    """Some users and their interests; padded interests have topic -1 and weight 0.

    Attributes:
        age_group, device: `(users,)` positions in `AGE_GROUPS` and `DEVICES`.
        joined: `(users,)` first day, in seconds since the start.
        topic: `(users, interests)` topics, all of one user's different.
        style: `(users, interests, STYLE_SIZE)` unit vectors.
        begins, ends: `(users, interests)` life span in seconds since the start.
        weight: `(users, interests)` how often an interest becomes current.
    """

    age_group: Integers
    device: Integers
    joined: Floats
    topic: Integers
    style: Floats
    begins: Floats
    ends: Floats
    weight: Floats


def make_users(random: Generator, videos: Videos, count: int, days: int) -> Users:
    """Makes `count` users with `_FEWEST_INTERESTS` to `_MOST_INTERESTS` interests each."""
    age_group = random.choice(len(AGE_GROUPS), count, p=[0.1, 0.25, 0.3, 0.25, 0.1])
    most = min(_MOST_INTERESTS, videos.topic_weight.shape[1])
    keys = np.log(videos.topic_weight[age_group]) + random.gumbel(size=(count, videos.topic_weight.shape[1]))
    topic = np.argsort(-keys, axis=1, kind="stable")[:, :most]  # a weighted draw without replacement
    interests = random.integers(min(_FEWEST_INTERESTS, most), most + 1, count)
    real = np.arange(most) < interests[:, None]
    end = days * DAY
    joined = random.random(count) * LATEST_JOIN * end
    fate = random.random((count, most))  # 15 % begin late, 15 % end early
    turn = (0.2 + 0.75 * random.random((count, most))) * end
    return Users(
        age_group=age_group,
        device=random.choice(len(DEVICES), count, p=[0.5, 0.3, 0.15, 0.05]),
        joined=joined,
        topic=np.where(real, topic, -1),
        style=_unit(random.normal(size=(count, most, STYLE_SIZE))),
        begins=np.where(fate < 0.15, turn, 0.0),
        ends=np.where(fate > 0.85, turn, end),
        weight=np.where(real, random.gamma(1.5, 1.0, (count, most)), 0.0),
    )


@dataclasses.dataclass(frozen=True)
class Habits:
    """How users spend their time.

    Attributes:
        explore: share of the slots that explore.
        phase_sessions: sessions of a phase, on average; long phases put most interests beyond the latest behaviours.
        returns: share of the sessions about an interest other than the phase's two.
        filler: share of the feed slots with a popular video.
    """

    explore: float
    phase_sessions: float = 16
    returns: float = 0.06
    filler: float = 0.15


def live(
    random: Generator, videos: Videos, users: Users, impressions: Integers, days: int, habits: Habits
) -> dict[str, Any]:
    """Lets users watch.

    Args:
        random: the source of every choice.
        videos: the catalogue.
        users: who watches.
        impressions: `(users,)` how many videos each is shown.
        days: simulated days.
        habits: how they spend their time.

    Returns:
        Arrays with one row an impression, by user and time: `user` (position), `seconds` since the start, `row` of the
        video, `click`, `explores`, `play_time` in seconds, `completion`, `page_position`, and `interest`, the position
        of the user's living interest that the video belongs to, or -1, also for a click by accident.
    """
    user = np.repeat(np.arange(len(impressions)), impressions)
    total = len(user)
    first = np.append(True, np.diff(user) > 0)
    opens = first | (random.random(total) < 1 / _SESSION)
    session = np.cumsum(opens) - 1
    seconds, in_session = _times(random, users, user, opens, session, days)

    session_user, session_seconds = user[opens], seconds[opens]
    turns = first[opens] | (random.random(len(session_user)) < 1 / habits.phase_sessions)
    phase = np.cumsum(turns) - 1
    phase_user, phase_seconds = session_user[turns], session_seconds[turns]
    current = np.stack([_living_interest(random, users, phase_user, phase_seconds) for _ in range(2)], axis=1)
    chosen = current[phase, (random.random(len(phase)) < 0.35).astype(int)]
    returned = _living_interest(random, users, session_user, session_seconds)
    session_interest = np.where(random.random(len(phase)) < habits.returns, returned, chosen)

    explores = random.random(total) < habits.explore
    any_interest = (random.random(total) * (users.topic >= 0).sum(1)[user]).astype(np.int64)
    popular = random.random(total) < np.where(explores, 0.5, habits.filler)
    wanted = np.where(explores, any_interest, session_interest[session])
    topic = np.where(popular, -1, users.topic[user, wanted])
    period = np.minimum((seconds / (days * DAY) * videos.periods).astype(np.int64), videos.periods - 1)
    row = videos.pick(random, topic, period)
    other = videos.pick(random, topic, period)  # the feed knows the session's taste a little: the better of two
    taste = users.style[user, wanted]
    better = _dot(videos.style[other], taste) > _dot(videos.style[row], taste)
    row = np.where(better & ~explores & ~popular, other, row)

    interest, nearness = _matching(users, user, videos.topic[row], videos.style[row], seconds)
    matched = interest >= 0
    worn_out = matched & (interest[:, None] == current[phase][session]).any(1)
    position = in_session % _PAGE
    logit = np.where(matched, _MATCHED + _BY_STYLE * nearness + _WORN_OUT * worn_out, _UNMATCHED)
    logit += videos.quality[row] + _BY_POSITION * position
    click = random.random(total) < 1 / (1 + np.exp(-logit))
    accident = ~click & ~explores & (random.random(total) < _ACCIDENT)
    click |= accident

    liking = np.where(matched & ~accident, np.clip(0.5 + 0.45 * nearness, 0.05, 0.95), 0.08)
    completion = np.where(click, random.beta(6 * liking, 6 * (1 - liking)), 0.0)
    return {
        "user": user,
        "seconds": seconds,
        "row": row,
        "click": click,
        "explores": explores,
        "play_time": np.round(completion * videos.duration[row], 1),
        "completion": np.round(completion, 3),
        "page_position": position + 1,
        "interest": np.where(accident, -1, interest),
    }


def _times(
    random: Generator, users: Users, user: Integers, opens: Flags, session: Integers, days: int
) -> tuple[Floats, Integers]:
    """Seconds since the start, rising per user, and the position of each impression in its session."""
    opener = user[opens]
    day = users.joined[opener] / DAY + random.random(len(opener)) * (days - 0.1 - users.joined[opener] / DAY)
    hour = np.where(
        random.random(len(opener)) < 0.6, random.normal(20.5, 1.5, len(opener)), random.uniform(7, 23.5, len(opener))
    )
    start = np.clip(np.floor(day) + np.clip(hour, 0, 23.9) / 24, users.joined[opener] / DAY, days - 0.1) * DAY
    start = start[np.lexsort((start, opener))]
    position = np.arange(len(user)) - np.flatnonzero(opens)[session]
    gaps = np.cumsum(random.exponential(20.0, len(user)))
    seconds = start[session] + gaps - gaps[np.flatnonzero(opens)[session]]
    seconds = np.minimum(seconds, days * DAY - 1e-3)
    return seconds[np.lexsort((seconds, user))], position


def _living_interest(random: Generator, users: Users, user: Integers, seconds: Floats) -> Integers:
    """Draws an interest alive at the time, by weight."""
    alive = (users.begins[user] <= seconds[:, None]) & (seconds[:, None] < users.ends[user])
    weight = users.weight[user] * np.where(alive, 1.0, 1e-9)
    sums = np.cumsum(weight, axis=1)
    return (sums <= (random.random(len(user)) * sums[:, -1])[:, None]).sum(1)


def _matching(users: Users, user: Integers, topic: Integers, style: Floats, seconds: Floats) -> tuple[Integers, Floats]:
    """The living interest with the video's topic (-1 if none) and the nearness of the styles, -1 to 1."""
    interest = np.full(len(user), -1, np.int64)
    for one in range(users.topic.shape[1]):
        alive = (users.begins[user, one] <= seconds) & (seconds < users.ends[user, one])
        interest[(users.topic[user, one] == topic) & alive] = one
    return interest, np.where(interest >= 0, _dot(style, users.style[user, interest]), 0.0)


def _dot(left: Floats, right: Floats) -> Floats:
    return np.einsum("nd,nd->n", left, right)


def _unit(vectors: Floats) -> Floats:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
