"""Is a new version at least as good as the published one? Both score the same clicks: the new version's own probes.

The report of a run cannot say it: runs of two days have two test splits. So the published version is loaded, in the C++
runtime too, and asked what the new one is asked. The indices in the probes must mean the same to both: see
`provenance.check_contract`.
"""

import dataclasses
from pathlib import Path

import numpy as np

from export.contract.errors import ServingError
from export.contract.probe_file import Probes, load_probe_file
from export.contract.tensors import Array
from export.gate.check import Check
from export.gate.provenance import other_versions
from export.session.loaded_version import LoadedVersion
from export.session.served_scores import served_scores

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


def check_auc(directory: Path, scores: Array, base_path: Path, epsilon: float) -> Check:
    """Whether the AUC is not below that of the version published last that loads.

    Args:
        directory: the new version.
        scores: its `labelled_scores`.
        base_path: of the published ones, of which the newest has the same contract.
        epsilon: see `Comparison.worse`.
    """
    numbers = other_versions(directory, base_path)
    probes = load_probe_file(directory)
    if unknown := unlabelled(probes):
        detail = f"not compared: {unknown}" if numbers else f"unknown: {unknown}; no version to compare it with"
        return Check("auc", not numbers, detail, unchecked=bool(numbers))
    label = probes.expected["label"][probes.real]
    passed_over = ""
    for number in numbers:
        published = published_scores(base_path / str(number), probes)
        if not isinstance(published, str):
            return _check_loss(number, compare(label, scores, published), len(label), epsilon)
        passed_over += f" (version {number} does not load: {published})"
    if passed_over:
        return Check("auc", False, f"not compared{passed_over}", unchecked=True)
    alone = compare(label, scores, scores)
    return Check("auc", True, f"{alone.auc:.4f}; no version to compare it with", {"auc": alone.auc})


def _check_loss(number: int, found: Comparison, targets: int, epsilon: float) -> Check:
    figures = {
        "auc": found.auc,
        "published_auc": found.published,
        "standard_error": found.standard_error,
        "targets": float(targets),
    }
    detail = (
        f"{found.auc:.4f} against {found.published:.4f} of version {number} on the same {targets} targets "
        f"(standard error of the difference {found.standard_error:.4f})"
    )
    worse = found.worse(epsilon)
    if worse:
        detail += f": worse by more than {epsilon:g} and by more than chance explains or {MOST_BY_CHANCE:g}"
    return Check("auc", not worse, detail, figures)


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
