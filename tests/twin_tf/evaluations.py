"""What `evaluate_run` returns, made of numbers in place of a run and without TensorFlow."""

import copy
import functools

import numpy as np

from twin_tf.evaluation.judged import Judged
from twin_tf.evaluation.predictions import Predictions
from twin_tf.evaluation.sliced_evaluation import Evaluation, Scored
from twin_tf.evaluation.slices import reliability, worst_slices
from twin_tf.evaluation.verdicts import not_beaten
from twin_tf.features.events import TimeColumn

DAY = 86_400


def judged_result(**changes):
    """`_made` with other arguments; made once for all tests of a process."""
    return copy.deepcopy(_made(**changes))


@functools.cache
def _made(users=40, each=30, days=3, rate=0.4, skill=1.0, split="test", cuts=(), slices=("device",)):
    """An evaluation of `users * each` targets; the scores know the labels the better the greater `skill`."""
    random, count = np.random.default_rng(7), users * each
    user, label = np.repeat(np.arange(users), each), (random.random(count) < rate).astype("f4")
    time = 1_700_000_000 // DAY * DAY + np.arange(count) % days * DAY
    noise = random.normal(size=count)

    def scores(knowing):
        return (1 / (1 + np.exp(-(knowing * (label - 0.5) + noise)))).astype("f4")

    evaluation = Evaluation(np.arange(50) % 5 > 0, np.arange(users - 1))
    context = np.arange(count).reshape(-1, 1) % 3
    item, history = (np.arange(count) % 50).astype("i4"), np.arange(count) * 7 % 900
    evaluation.update(Scored(user, item, label, scores(skill), history, time, context.astype("i4")))
    judged = Judged.of(evaluation.predictions, evaluation.time)
    sliced = evaluation.slices(TimeColumn("time", "s"), dict.fromkeys(slices, "value {}".format))
    result = {
        "split": split,
        "metrics": evaluation.metrics.to_plain(),
        "intervals": judged.draws.intervals(),
        "requests": judged.requests.to_plain(),
        "slices": sliced,
        "worst_slices": worst_slices(sliced),
        "reliability": reliability(evaluation.predictions),
    }
    found = {}
    for key, knowing in (("item_rate", 0.3), ("counting_topic", 0.6)):
        theirs = Judged.of(Predictions(user, label, scores(knowing)))
        intervals = theirs.draws.intervals()
        found[key] = {"label": key, **theirs.figures, "intervals": intervals, "behind": judged.less(theirs)}
    result |= {"yardsticks": found, "not_beaten": not_beaten(result["metrics"], found)}
    if cuts:
        rows = []
        for history, knowing in [*((cut, skill * cut / 1000) for cut in cuts), (None, skill)]:
            cut = Judged.of(Predictions(user, label, scores(knowing)))
            figures = {metric: cut.figures[metric] for metric in ("auc", "gauc", "logloss")}
            rows.append({"history": history, **figures, "intervals": {}, "less": cut.less(judged)})
        result["history_worth"] = rows
    return result
