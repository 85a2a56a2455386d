"""Is a new version at least as good as the published one? Both score the same clicks: the new version's own probes.

The report of a run cannot say it: runs of two days have two test splits. So the published version is loaded, in the C++
runtime too, and asked what the new one is asked. The indices in the probes must mean the same to both.
"""

import dataclasses
from pathlib import Path

import numpy as np

from export.contract.errors import ServingError
from export.contract.probe_file import Probes
from export.contract.signatures import request_contract
from export.contract.tensors import Array
from export.session.loaded_version import LoadedVersion
from export.session.served_scores import served_scores
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.features.encoders import FeatureEncoder

EPSILON = 0.002
CHANCE = 2.0
"""Standard errors that a loss must exceed before it counts: few probes must not refuse a version that is as good."""
MOST_BY_CHANCE = 0.01
"""The largest loss that chance excuses, however few the probes are."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two versions on the same labelled targets.

    Attributes:
        auc: of the new version.
        published: of the published one.
        standard_error: of the difference of the two, by DeLong: what chance alone does to it.
    """

    auc: float
    published: float
    standard_error: float

    def worse(self, epsilon: float) -> bool:
        """Whether the AUC is lower by more than epsilon, and by more than chance explains or by `MOST_BY_CHANCE`."""
        return self.published - self.auc > max(epsilon, min(CHANCE * self.standard_error, MOST_BY_CHANCE))


def labelled_scores(version: LoadedVersion, probes: Probes) -> Array:
    """The served probabilities of all real candidates of the probes, float64 `(targets,)`."""
    scores = np.zeros(probes.real.shape)
    for rows, served in served_scores(version, probes):
        scores[rows, : served.shape[1]] = served
    return scores[probes.real]


def unlabelled(probes: Probes) -> str:
    """Why the probes tell no AUC; empty if they do."""
    if "label" not in probes.expected:
        return "its probes carry no labels; export it again to have its AUC compared"
    labels = np.unique(probes.expected["label"][probes.real] > 0.5)
    return "" if len(labels) == 2 else "its probes have targets of one class alone"


def incomparable(new: Path, published: Path) -> str:
    """Why two versions cannot be asked the same; empty if they can.

    Only what a request carries counts: raw ids mean the same to every version, indices where the encoding is the same
    as far as both have it.

    Args:
        new: where schema and vocabularies of the new version lie, its `assets.extra` or its run.
        published: where those of the published one lie.
    """
    try:
        ours, theirs = FeatureEncoder.load(new), FeatureEncoder.load(published)
    except (ConfigError, OSError) as error:
        return str(error)
    if request_contract(ours.schema) != request_contract(theirs.schema):
        return "it takes other inputs"
    for feature in (*ours.schema.stored_cross, *ours.schema.user, *ours.schema.stored_context):
        other = theirs.schema.feature(feature.name)
        if feature.encoding_or_fail.kind != other.encoding_or_fail.kind:
            return f"it encodes {feature.name} in another way"
        if feature.encoding_or_fail.kind == "numeric":
            same = ours.boundaries(feature) == theirs.boundaries(other)
        else:
            mine, before = ours.fitted.get(feature.name, []), theirs.fitted.get(feature.name, [])
            both = min(len(mine), len(before))
            same = mine[:both] == before[:both]
        if not same:
            return f"its indices of {feature.name} mean something else"
    return ""


def published_scores(published: Path, probes: Probes) -> Array | str:
    """`labelled_scores` of the published version, or why it has none."""
    try:
        version = LoadedVersion(published)
    except ServingError as error:
        return error.sentence
    try:
        return labelled_scores(version, probes)
    except ServingError as error:
        return error.sentence
    finally:
        version.close()


def compare(label: Array, new: Array, published: Array) -> Comparison:
    """AUC of two versions and the standard error of their difference (DeLong, DeLong and Clarke-Pearson, 1988).

    Args:
        label: `(targets,)`, both classes.
        new: scores of the new version.
        published: of the published one.
    """
    clicked = label > 0.5
    pairs = [(scores[clicked], scores[~clicked]) for scores in (new, published)]
    # The share of the other class that each target is on the right side of; ties count half. Its mean is the AUC.
    clicks = np.stack([_share_below(negative, positive) for positive, negative in pairs])
    others = np.stack([1 - _share_below(positive, negative) for positive, negative in pairs])
    variance = sum(float(np.var(side[0] - side[1])) / side.shape[1] for side in (clicks, others))
    auc, before = clicks.mean(axis=1)
    return Comparison(float(auc), float(before), float(np.sqrt(variance)))


def _share_below(sample: Array, values: Array) -> Array:
    ordered = np.sort(sample)
    places = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return np.asarray(places / (2 * len(ordered)))
