"""How well the candidates of one request are ordered: AUC and NDCG within it.

A request is what one user was shown under one request id, where the log has such ids (`Events.request`), at whatever
times; targets without one are left out. Without ids it is what one user was shown at one time. Only requests with a
click and a non-click tell anything. Both figures are means over such requests, all alike: a log with one target a
request has none.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from twin_tf.evaluation.bootstrap import Ratio, user_auc
from twin_tf.evaluation.predictions import Predictions

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class RequestMetrics(NamedTuple):
    """Figures of the requests with both labels.

    Attributes:
        grouped_by: what the targets of a request share: `user and request id`, or `user and time`.
        without_id: targets that are left out, for they have no request id; None where requests go by time.
        requests: how many.
        targets: in them.
        auc: mean AUC; None without requests.
        ndcg: mean NDCG over all candidates of a request; candidates of one score share their places. None likewise.
        ratios: `request_auc` and `request_ndcg` as sums by user, for `bootstrap.resample`.
    """

    grouped_by: str
    without_id: int | None
    requests: int
    targets: int
    auc: float | None
    ndcg: float | None
    ratios: dict[str, Ratio]

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        plain = self._asdict()
        del plain["ratios"]
        return plain


def request_metrics(predictions: Predictions, time: Ints, request_id: Ints | None = None) -> RequestMetrics:
    """AUC and NDCG within requests.

    Args:
        predictions: all targets.
        time: int64 `(n,)`, when they were shown.
        request_id: int64 `(n,)`, in which request of their user, 0 for none; None, empty or 0 throughout where nobody
            knows.
    """
    ids, user = np.unique(predictions.user, return_inverse=True)
    by_id = request_id is not None and bool(request_id.any())
    shown = request_id if request_id is not None and by_id else time
    order = np.lexsort((-predictions.score, shown, user))
    order = order[shown[order] != 0] if by_id else order
    user, shown = user[order], shown[order]
    sorted_by_request = predictions.at(order)
    new = np.append(True, (user[1:] != user[:-1]) | (shown[1:] != shown[:-1]))[: len(user)]
    starts, request = np.flatnonzero(new), np.cumsum(new) - 1
    auc = user_auc(sorted_by_request, request, len(starts))
    told = np.isfinite(auc)
    ndcg = _ndcg(sorted_by_request, request, starts)
    owner = user[starts]

    def by_user(values: Floats) -> Floats:
        return np.bincount(owner[told], weights=values[told], minlength=len(ids)).astype(np.float64)

    number = by_user(np.ones(len(starts)))
    return RequestMetrics(
        grouped_by="user and request id" if by_id else "user and time",
        without_id=len(time) - len(order) if by_id else None,
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
