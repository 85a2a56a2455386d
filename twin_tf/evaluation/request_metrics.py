"""How well the candidates of one request are ordered: AUC and NDCG within it.

Logs have no request ids, so a request is what one user was shown at one time (`user` and `time` of the targets). Only
requests with a click and a non-click tell anything. Both figures are means over such requests, all alike: a log with
one target a time has none.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from twin_tf.evaluation.bootstrap import Ratio, user_auc
from twin_tf.evaluation.predictions import Predictions

GROUPED_BY = "user and time"

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class RequestMetrics(NamedTuple):
    """Figures of the requests with both labels.

    Attributes:
        requests: how many.
        targets: in them.
        auc: mean AUC; None without requests.
        ndcg: mean NDCG over all candidates of a request; candidates of one score share their places. None likewise.
        ratios: `request_auc` and `request_ndcg` as sums by user, for `bootstrap.resample`.
    """

    requests: int
    targets: int
    auc: float | None
    ndcg: float | None
    ratios: dict[str, Ratio]

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "grouped_by": GROUPED_BY, "requests": self.requests, "targets": self.targets, "auc": self.auc,
            "ndcg": self.ndcg,
        }  # fmt: skip


def request_metrics(predictions: Predictions, time: Ints) -> RequestMetrics:
    """AUC and NDCG within requests.

    Args:
        predictions: all targets.
        time: int64 `(n,)`, when they were shown.
    """
    ids, user = np.unique(predictions.user, return_inverse=True)
    order = np.lexsort((-predictions.score, time, user))
    user, time = user[order], time[order]
    sorted_by_request = predictions.at(order)
    new = np.append(True, (user[1:] != user[:-1]) | (time[1:] != time[:-1]))[: len(user)]
    starts, request = np.flatnonzero(new), np.cumsum(new) - 1
    auc = user_auc(sorted_by_request, request, len(starts))
    told = np.isfinite(auc)
    ndcg = _ndcg(sorted_by_request, request, starts)
    owner = user[starts]

    def by_user(values: Floats) -> Floats:
        return np.bincount(owner[told], weights=values[told], minlength=len(ids)).astype(np.float64)

    number = by_user(np.ones(len(starts)))
    return RequestMetrics(
        requests=int(told.sum()),
        targets=int(np.diff(np.append(starts, len(user)))[told].sum()),
        auc=float(auc[told].mean()) if told.any() else None,
        ndcg=float(ndcg[told].mean()) if told.any() else None,
        ratios={"request_auc": Ratio(by_user(auc), number), "request_ndcg": Ratio(by_user(ndcg), number)},
    )


def _ndcg(targets: Predictions, request: Ints, starts: Ints) -> Floats:
    """NDCG of each request, `(requests,)`; NaN without a click. Targets stand by request and falling score."""
    count = len(request)
    place = np.arange(count) - starts[request]
    discount = 1 / np.log2(place + 2)
    new = np.append(True, (request[1:] != request[:-1]) | (targets.score[1:] != targets.score[:-1]))[:count]
    ties = np.cumsum(new) - 1
    shared = np.bincount(ties, weights=discount) / np.bincount(ties)  # mean over the orders of equal scores
    gained = np.bincount(request, weights=targets.label * shared[ties], minlength=len(starts))
    clicks = np.bincount(request, weights=targets.label, minlength=len(starts)).astype(np.int64)
    best = np.concatenate([[0], np.cumsum(1 / np.log2(np.arange(int(clicks.max(initial=0))) + 2))])[clicks]
    return np.divide(gained, best, out=np.full(len(starts), np.nan), where=best > 0)
