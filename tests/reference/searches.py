"""What each search strategy chooses, in loops that can be read beside the papers.

Every function gets one target and the behaviours before it, oldest first, and returns the chosen places, best first.
`item` is a row of the catalogue's feature indices, `vector` an embedding.
"""

import math
from collections import Counter

import numpy as np


def best(scores, count):
    """The places of the `count` largest scores above minus infinity; of equal ones the latest first."""
    places = [place for place, score in enumerate(scores) if score > -math.inf]
    return sorted(places, key=lambda place: (-scores[place], -place))[:count]


def values(row, columns):
    """The known values of a feature of an item."""
    return {int(value) for value in row[columns] if value >= 2}


def sim_hard(target, behaviours, columns, count):
    """SIM Hard."""
    wanted = values(target, columns)
    return best([0.0 if wanted & values(row, columns) else -math.inf for row in behaviours], count)


def sim_soft(target, behaviours, count):
    """SIM Soft: vectors of the target and the behaviours."""
    return best([float(vector @ target) for vector in behaviours], count)


def sim_cluster(target, behaviours, count):
    """SIM Cluster: cluster numbers; -1 is none."""
    return best([0.0 if cluster == target != -1 else -math.inf for cluster in behaviours], count)


def eta(target, behaviours, planes, count):
    """ETA: the fewest different bits."""
    mine = target @ planes > 0
    return best([-sum((vector @ planes > 0) != mine) for vector in behaviours], count)


def sdim(target, behaviours, planes, round_bits, count):
    """SDIM: rounds in which all bits are the target's."""
    mine = target @ planes > 0
    scores = []
    for vector in behaviours:
        same = (vector @ planes > 0) == mine
        scores.append(sum(same[start : start + round_bits].all() for start in range(0, len(same), round_bits)))
    return best(scores, count)


def ubr4ctr(target, behaviours, spans, count, k1=1.2, b=0.75):
    """UBR4CTR's retrieval over the user's own behaviours."""
    documents = [Counter((span, value) for span in spans for value in values(row, slice(*span))) for row in behaviours]
    query = [(span, value) for span in spans for value in values(target, slice(*span))]
    lengths = [sum(document.values()) for document in documents]
    mean = sum(lengths) / max(len(lengths), 1)
    scores = []
    for document, length in zip(documents, lengths, strict=True):
        score = 0.0
        for term in query:
            held = sum(term in other for other in documents)
            rarity = math.log(1 + (len(documents) - held + 0.5) / (held + 0.5))
            occurs = document[term]
            score += rarity * occurs * (k1 + 1) / (occurs + k1 * (1 - b + b * length / mean)) if occurs else 0.0
        scores.append(score if score > 0 else -math.inf)
    return best(scores, count)


def sim_soft_learned(target, behaviours, target_kernel, item_kernel, count):
    """SIM's soft search: r_i = (W_b e_i) . (W_a e_a)."""
    return best([float((vector @ item_kernel) @ (target @ target_kernel)) for vector in behaviours], count)


def soft_sum_logit(target, behaviours, target_kernel, item_kernel, hidden, logit):
    """SIM's own network on the soft sum, over the number of behaviours; hidden and logit are (kernel, bias)."""
    total = np.zeros(len(target))
    for vector in behaviours:
        total += float((vector @ item_kernel) @ (target @ target_kernel)) * vector / len(behaviours)
    inner = np.maximum(np.concatenate([total, target]) @ hidden[0] + hidden[1], 0)
    return (inner @ logit[0] + logit[1])[0]


def avg_pooling(behaviours):
    """Average pooling: one entry, all behaviours alike: (1, n) weights."""
    return np.full((1, len(behaviours)), 1 / len(behaviours)) if len(behaviours) else np.zeros((1, 0))


def mimn(behaviours, keys):
    """The slots' weights: (slots, n)."""
    if not len(behaviours):
        return np.zeros((keys.shape[1], 0))
    logits = behaviours @ keys
    written = np.exp(logits - logits.max(axis=1, keepdims=True))
    written /= written.sum(axis=1, keepdims=True)
    return (written / written.sum(axis=0)).T
