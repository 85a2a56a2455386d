"""What needs no network, for the same targets as a model: what a model has to beat to be worth its cost.

| key | what it is |
|---|---|
| `item_rate` | smoothed click rate of the item (`earlier_rates`) |
| `item_user_rate` | the rates of item and user, joined by a logistic regression |
| `counting_<category>` | behaviours with the target's item and category (`counting_baseline`) |
| `counting_<category>_latest_100` | the same of the latest 100 |
| `trees` | gradient-boosted trees over a dozen numbers (`history_trees`) |

Whatever is fitted is fitted on the training part; what is counted, is counted over strictly earlier events.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from twin_tf.evaluation.counting_baseline import count_behaviours
from twin_tf.evaluation.earlier_rates import combined_rate, earlier_rates
from twin_tf.evaluation.history_trees import tree_scores
from twin_tf.evaluation.predictions import Predictions
from twin_tf.features.schema import FeatureSchema
from twin_tf.records.corrupt_records import corrupt_records_named
from twin_tf.records.format import SPLITS, Manifest, SplitName
from twin_tf.records.record_reader import read_targets

MOST_TARGETS = 20_000_000
"""Of a longer training part about so many targets are looked at, those of evenly spaced records: this bounds memory."""

LATEST = 100


class Yardstick(NamedTuple):
    """One yardstick.

    Attributes:
        label: in tables.
        predictions: in the order of the files.
        probabilities: whether its scores are such, so that log loss and calibration mean something.
        time: int64 `(n,)`, when the targets were shown.
        request: int64 `(n,)` ids of requests, 0 for none; empty where the data have none.
    """

    label: str
    predictions: Predictions
    probabilities: bool = True
    time: npt.NDArray[np.int64] = np.zeros(0, np.int64)
    request: npt.NDArray[np.int64] = np.zeros(0, np.int64)

    def to_plain(self) -> dict[str, Any]:
        """`label` and the metrics, for JSON."""
        found = {"label": self.label, **self.predictions.metrics.to_plain()}
        return found if self.probabilities else {**found, "logloss": None, "calibration": None}


def default_category(schema: FeatureSchema, configured: str | None = None) -> str:
    """The inherent feature that counting goes by: the configured one, else the first that is not the item's id."""
    if configured is not None and configured in schema.inherent_slices:
        return configured
    return next((f.name for f in schema.inherent if f.name not in schema.item_ids), schema.inherent[0].name)


def compute_yardsticks(
    manifest: Manifest,
    split: SplitName,
    categories: Sequence[str] = (),
    *,
    trees: bool = False,
    limit: int | None = None,
) -> dict[str, Yardstick]:
    """The yardsticks of a split's targets.

    Args:
        manifest: prepared data.
        split: which targets; at least one.
        categories: inherent features to count by; without any only the rates are computed.
        trees: fit the trees too, which go by the first category; not for the training part itself.
        limit: an evenly spaced sample of about this many records, as `Evaluator.run` takes it; None takes all.

    Returns:
        Key -> yardstick, see above. What cannot be fitted, for want of training targets of both labels, is left out.
    """
    with corrupt_records_named(manifest):
        every = 1 if split == "train" else max(1, -(-manifest.counts.targets["train"] // MOST_TARGETS))
        targets = read_targets(manifest, SPLITS[: SPLITS.index(split) + 1], {"train": every})
        rates = earlier_rates(targets.user, targets.item, targets.time, targets.label)
        spacing = 1 if limit is None else max(1, -(-sum(shard.records for shard in manifest.shards(split)) // limit))
        chosen = targets.of(split) & (targets.record % spacing == 0)

        def predicted(score: Any) -> Predictions:
            return Predictions(targets.user[chosen], targets.label[chosen], score.astype("f4"))

        found = {"item_rate": Yardstick("item rate", predicted(rates.item[chosen]))}
        combined = combined_rate(rates, targets.label, targets.of("train"))
        if combined is not None:
            found["item_user_rate"] = Yardstick("item rate + user rate", predicted(combined[chosen]))
        longest = manifest.schema.history.max_length
        for category in categories:
            counted = count_behaviours(manifest, split, category, (LATEST, longest), spacing)
            name, label = f"counting_{category}", f"counting by {category}"
            found[f"{name}_latest_{LATEST}"] = Yardstick(f"{label}, latest {LATEST}", counted[LATEST], False)
            found[name] = Yardstick(f"{label}, whole history", counted[longest], False)
        if trees and split != "train":
            score = tree_scores(manifest, (split, spacing), categories[0], targets, rates, every)
            if score is not None:
                found["trees"] = Yardstick("boosted trees over the history", predicted(score))
    request = targets.request[chosen] if len(targets.request) else targets.request
    return {key: one._replace(time=targets.time[chosen], request=request) for key, one in found.items()}
