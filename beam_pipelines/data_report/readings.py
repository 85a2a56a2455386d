"""What a data report says in words: one sentence on each part, and what a split leaks and cannot tell."""

from beam_pipelines.data_report.rate_bins import interval, rate_bins, spread_by_chance
from beam_pipelines.data_report.summary import SPLITS, DataSummary, number, percent
from twin_tf.core.markdown import code

_EARLIER = "These data were prepared by earlier code, which did not count this."

_SPLITS = {
    "time": (
        "Splits are by time: whatever is shown before validation begins trains.",
        "Nothing that happens later reaches training, but names: vocabularies from the items log or the users log list "
        "what comes later too.",
        "How the model does in another season than that of the last days, or on users who were active in the training "
        "part alone.",
    ),
    "user_time": (
        "Splits are by time within each user: the first targets of each user train, the last ones test.",
        "Training has seen what other users did later than a test target: which items become popular is known to it.",
        "How the model does on users whom it has never seen, and what a model that is some days old is worth: its "
        "training ends with each user, not at a date.",
    ),
    "user": (
        "Splits are by user: a hash of the id says whether all of a user's targets train, validate or test.",
        "Training has seen other users at the same moments and later: which items become popular is known to it.",
        "How the model does on users whom it knows: user ids and rare values of users count as unknown or untrained "
        "here; and how it does on later days with new items.",
    ),
    "column": (
        "Splits are what a column of the events log says.",
        "Whatever the column lets through: behaviours of one split lie in the histories of another wherever they are "
        "earlier, and training may have seen later moments than a test target; the table says how many users are new.",
        "What the column is for is not in the data: whether a good figure means new users, later days or neither.",
    ),
}


def readings_of_split(summary: DataSummary) -> list[str]:
    """How the data are split, what that leaks and what it cannot tell."""
    how, leaks, silent = _SPLITS[summary.split.by]
    return [how, f"**Leaks:** {leaks}", f"**Cannot tell:** {silent}"]


def reading_of_history_lengths(summary: DataSummary) -> str:
    """Two sentences on the history lengths: what targets see, and the whole lives of the users."""
    lengths = summary.history_lengths
    if not lengths.users:
        return "There are no users, so there are no histories."
    seen = [(name, summary.splits[name]) for name in SPLITS if name in summary.splits and summary.splits[name].targets]
    each = ", ".join(f"{_behaviours(split.median)} in {name} (p90 {number(split.p90)})" for name, split in seen)
    sentence = f"A target sees a median of {each}. " if seen else f"{_EARLIER} "
    sentence += (
        f"Over their whole lives half of the users have at most {_behaviours(lengths.median)}, nine in ten at most "
        f"{number(lengths.p90)}, the longest history has {number(lengths.longest)}; "
    )
    if lengths.cut:
        return sentence + (
            f"{number(lengths.cut)} of {number(lengths.users)} users ({percent(lengths.cut / lengths.users)}) have "
            f"more than max_length = {number(lengths.max_length)}, so their targets see the latest ones only."
        )
    return sentence + f"nobody has more than max_length = {number(lengths.max_length)}, so every history is whole."


def reading_of_label_rate(summary: DataSummary) -> str:
    """One sentence on the label rate over time."""
    bins = rate_bins(summary.days)
    if not bins:
        return "There are no targets, so there is no label rate."
    targets, clicks = sum(part.targets for part in bins), sum(part.clicks for part in bins)
    days = sum(len(part.days) for part in bins)
    low, high = (percent(end) for end in interval(clicks, targets))
    sentence = (
        f"{percent(clicks / targets)} of the {number(targets)} targets of {_days(days)} are clicked "
        f"(95 % interval: {low} to {high})"
    )
    if len(bins) == 1:
        return f"{sentence}; " + ("all are of one day." if days == 1 else "they are too few for a course over time.")
    least, most = min(bins, key=lambda part: part.rate), max(bins, key=lambda part: part.rate)
    if least.rate == most.rate:
        return f"{sentence}, the same share all the time."
    ends = [f"{percent(part.rate)} of {number(part.targets)} ({part.name})" for part in (least, most)]
    chance = ", no more than chance alone would spread them" if spread_by_chance(bins) else ""
    return f"{sentence}: from {ends[0]} to {ends[1]}, days put together until they carry a figure{chance}."


def reading_of_new(summary: DataSummary) -> str:
    """Sentences on what training never sees: users, items, values."""
    names = summary.features
    if not names or summary.most_often_new(names[0])[1] < 0:
        return "There are no values to encode."
    parts = []
    for name in ("valid", "test"):
        split = summary.splits.get(name)
        if split is not None and split.targets:
            parts.append(
                f"Of the targets in {name} {percent(split.stranger_targets / split.targets)} are of users and "
                f"{percent(split.new_item_targets / split.targets)} of items that training never sees."
            )
    worst = names[0]
    where, share = summary.most_often_new(worst)
    if share == 0:
        return " ".join([*parts, "Every value of every feature is known in every split."])
    unknown, untrained = summary.new_values(where, worst) or (0.0, 0.0)
    trained = summary.new_values("train", worst)
    against = "" if where == "train" or trained is None else f", against {percent(sum(trained))} in train"
    how = (
        f" ({percent(unknown)} unknown, {percent(untrained)} in the vocabulary but never trained)" if untrained else ""
    )
    known = sum(summary.most_often_new(name)[1] == 0 for name in names)
    rest = f"; {known} of {len(names)} features have no such value in any split" if known else ""
    verb = "unknown or untrained" if untrained else "unknown"
    sentence = f"{code(worst)} is {verb} most often: {percent(share)} of its values in {where}{how}{against}{rest}."
    return " ".join([*parts, sentence])


def reading_of_coverage(summary: DataSummary) -> str:
    """One sentence on how many rows have a value."""
    columns = list(summary.columns())
    if not columns:
        return "There are no columns."
    gaps = [found for found in columns if found[2] < 1]
    if not gaps:
        return f"Every one of the {len(columns)} columns has a value in every row."
    log, column, share = min(gaps, key=lambda found: found[2])
    return (
        f"{code(column)} of the {log} log is the emptiest column, with a value in {percent(share)} of the rows; "
        f"{len(columns) - len(gaps)} of {len(columns)} columns have one in every row."
    )


def _behaviours(count: float) -> str:
    return f"{number(count)} behaviour" + ("" if count == 1 else "s")


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{number(count)} days"
