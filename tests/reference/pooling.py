"""A multi-valued feature's embedding, and the weighted loss, in loops."""

import math

import numpy as np


def mean_of_values(table, indices):
    """The mean of the rows of one item's values; 0 is no value, and an item without values is unknown (row 1)."""
    values = [int(index) for index in indices if index != 0] or [1]
    total = np.zeros(table.shape[1])
    for index in values:
        total += table[index if 0 <= index < len(table) else 1]
    return total / len(values)


def weighted_loss(logits, labels, weights, count, smoothing=0.0, class_weights=(1.0, 1.0)):
    """(sum of w * bce, sum of w) over the first `count[user]` targets of each user."""
    total = denominator = 0.0
    for user, real in enumerate(count):
        for target in range(real):
            label = labels[user][target]
            weight = weights[user][target] * class_weights[int(label)]
            wanted = label * (1 - smoothing) + smoothing / 2
            probability = 1 / (1 + math.exp(-logits[user][target]))
            total -= weight * (wanted * math.log(probability) + (1 - wanted) * math.log(1 - probability))
            denominator += weight
    return total, denominator
