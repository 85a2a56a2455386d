"""The whole network for one target in plain NumPy, float64: a model gives its weights and its settings, nothing else.

Batches come as NumPy arrays.
"""

import math
from typing import NamedTuple

import numpy as np

from tests.reference import attention
from tests.reference.pooling import mean_of_values


class AttentionOutput(NamedTuple):
    """What a block finds: places in the history in the order of the walk, alpha of all behaviours (heads, L), ..."""

    retrieved: list[int]
    alpha: np.ndarray
    output: np.ndarray
    relevance_statistics: np.ndarray


def numbers(variable):
    return np.asarray(variable, np.float64)


def known(index, rows):
    return int(index) if 0 <= index < rows else 1


def item_vectors(embedding, rows):
    """K_h of item rows: the embeddings of the features side by side, the mean where a feature has several values."""
    features, tables = np.asarray(embedding.item_features), [numbers(table) for table in embedding.tables]
    vectors = []
    for row in rows:
        index, parts = features[known(row, len(features))], []
        for feature, table in zip(embedding.features, tables, strict=True):
            values, index = index[: feature.max_values], index[feature.max_values :]
            several = feature.multi_valued is not None
            parts.append(mean_of_values(table, values) if several else table[known(values[0], len(table))])
        vectors.append(np.concatenate(parts))
    return np.array(vectors).reshape(len(rows), embedding.width)


def clock(feature, time, column):
    """The bucket of the hour of the day or the day of the week of a time."""
    seconds = int(time) // column.per_second + int(column.utc_offset_hours * 3600)
    return 2 + (seconds // 3600 % 24 if feature.derived == "hour_of_day" else (seconds // 86_400 + 3) % 7)


def cross_vectors(model, batch, user, target):
    """Feature -> E_j of every behaviour of the user as the target sees it, (L, dim_j); the parts of K_c."""
    column = model.schema.events.time
    timestamps = batch.targets.time[user]
    timestamp = int(timestamps[target if len(timestamps) > 1 else 0])
    vectors = {}
    for feature in model.schema.cross:
        table = numbers(model.cross_embedding.tables[feature.name])
        index, stored = [], batch.history.cross.get(feature.name)
        for place, time in enumerate(batch.history.time[user]):
            if feature.derived is None:
                index.append(known(stored[user, place], len(table)))
            elif feature.derived == "age":
                age = (timestamp - int(time)) // column.per_second
                index.append(2 + sum(age >= boundary for boundary in feature.encoding.boundaries))
            else:
                index.append(clock(feature, time, column))
        vectors[feature.name] = table[index]
    return vectors


def log_count(model, batch, user, stage):
    """TWIN-V2's ln n of every behaviour as a stage ("search" or "attention") adds it: (L,)."""
    if not model.schema.history.clustered or model.config.cluster_size_bias not in ("both", stage):
        return np.zeros(len(batch.history.item[user]))
    return np.array([math.log(max(int(count), 1)) for count in batch.history.count[user]])


def alpha_of(model, block, batch, user, target):
    """The relevance of every behaviour, with what equal values add to it: (heads, L)."""
    alpha = eq_6(model, block, batch, user, target)
    if block.equality_bias is None:
        return alpha
    return alpha + attention.equality_bias(
        features_of(model.relevance_embedding, batch.targets.item[user, target]),
        [features_of(model.relevance_embedding, row) for row in batch.history.item[user]],
        list(model.schema.inherent_slices.values()),
        numbers(block.equality_bias.kernel),
    )


def eq_6(model, block, batch, user, target):
    """Eq. 6, or plain target attention's relevance, of every behaviour: (heads, L)."""
    relevance = block.relevance
    query = queries_of(model, batch, user, target)
    items = item_vectors(model.relevance_embedding, batch.history.item[user])
    cross = cross_vectors(model, batch, user, target) if model.config.bias else {}
    query_kernel, item_kernel = numbers(relevance.query_kernel), numbers(relevance.item_kernel)
    if model.config.relevance == "raw":
        full = np.concatenate([items, *[cross[name] for name in relevance.offsets]], axis=1)
        kernel = np.concatenate([item_kernel, *([numbers(relevance.cross_kernel)] if cross else [])])
        return attention.raw_relevance(query, full, query_kernel, kernel, relevance.heads)
    names = list(cross)
    return attention.relevance(
        query,
        items,
        query_kernel,
        item_kernel,
        [cross[name] for name in names],
        [numbers(relevance.cross_kernels[name]) for name in names],
        [float(relevance.beta[relevance.cross_names.index(name)]) for name in names],
        relevance.heads,
    )


def features_of(embedding, row):
    """The feature indices of an item; of the unknown item, if there is no such row."""
    features = numbers(embedding.item_features)
    return features[known(row, len(features))]


def end_of(batch, user, target):
    """How many behaviours the target sees before any window."""
    ends = batch.targets.end[user]
    return min(max(int(ends[target if len(ends) > 1 else 0]), 0), int(batch.history.length[user]))


def find(block, alpha, end, null=None):
    """What the block's search chooses of `end` behaviours."""
    search = block.search
    if search.name == "din":
        return [place for place in range(end - 1, end - 1 - search.window, -1) if place >= 0]
    seen = [end - search.history_length <= place < end for place in range(alpha.shape[1])]
    return attention.merge_heads(alpha, seen, search.top_k, null)


def attend(model, block, batch, user, target, retrieved=None):
    """A block for one target; `retrieved` if another search chose them."""
    alpha = alpha_of(model, block, batch, user, target)
    null = None
    if block.null_key is not None:
        own = self_relevance(model, block, batch, user, target)
        null = numbers(block.null_key.scale) * own + numbers(block.null_key.offset)
    if retrieved is None:
        retrieved = find(block, alpha + log_count(model, batch, user, "search"), end_of(batch, user, target), null)
    alpha = alpha + log_count(model, batch, user, "attention")
    layer, cross = block.attention, cross_vectors(model, batch, user, target)
    items = item_vectors(model.item_embedding, batch.history.item[user])
    full = np.concatenate([items, *[cross[name] for name in layer.cross_offsets]], axis=1)
    kernel = np.concatenate([numbers(layer.item_kernel), *([numbers(layer.cross_kernel)] if cross else [])])
    output = attention.target_attention(alpha, retrieved, full, kernel, numbers(layer.output_kernel), null)
    return AttentionOutput(retrieved, alpha, output, attention.relevance_statistics(alpha, retrieved))


def long_term(model, batch, user, target):
    """The long-term block; with an auxiliary twin, of the behaviours that the twin chose."""
    chosen = None
    if model.auxiliary is not None:
        chosen = attend(model.auxiliary, model.auxiliary.long_term, batch, user, target).retrieved
    return attend(model, model.long_term, batch, user, target, chosen)


def queries_of(model, batch, user, target):
    """K_h of the target, as the relevance sees it."""
    return item_vectors(model.relevance_embedding, [batch.targets.item[user, target]])[0]


def self_relevance(model, block, batch, user, target):
    """Per head, the relevance of a target to itself; no cross features."""
    layer, query = block.relevance, queries_of(model, batch, user, target)
    kernels = numbers(layer.query_kernel), numbers(layer.item_kernel)
    own = attention.relevance(query, query[None], *kernels, [], [], [], layer.heads)[:, 0]
    if block.equality_bias is None:
        return own
    features = features_of(model.relevance_embedding, batch.targets.item[user, target])
    slices = list(model.schema.inherent_slices.values())
    return own + attention.equality_bias(features, [features], slices, numbers(block.equality_bias.kernel))[:, 0]


def mixer_input(model, batch, user, target, found):
    """Everything that is known of a target, side by side; `found` is what the long-term block gives."""
    parts = [found.output, item_vectors(model.item_embedding, [batch.targets.item[user, target]])[0]]
    if model.short_term is not None:
        parts.append(attend(model, model.short_term, batch, user, target).output)
    if model.config.relevance_statistics:
        end = end_of(batch, user, target)
        seen = int(batch.history.count[user][max(0, end - model.window) : end].sum())
        own = self_relevance(model, model.long_term, batch, user, target)
        parts += [0.3 * (found.relevance_statistics - np.concatenate([own, own])), 0.3 * own, [0.3 * math.log1p(seen)]]
    if model.config.graded_counts:
        own = self_relevance(model, model.long_term, batch, user, target)
        counts = attention.graded_counts(found.alpha, found.retrieved, own, model.config.graded_counts)
        parts.append(0.3 * counts)
    for feature in model.schema.user:
        table = numbers(model.user_embeddings[feature.name].table)
        parts.append(table[known(batch.user[feature.name][user], len(table))])
    for feature in model.schema.of_target:
        table = numbers(model.context_embeddings[feature.name].table)
        source = batch.targets.time if feature.derived else batch.targets.context[feature.name]
        values = source[user]
        value = values[target if len(values) > 1 else 0]
        index = clock(feature, value, model.schema.events.time) if feature.derived else known(value, len(table))
        parts.append(table[index])
    return np.concatenate(parts)


def logit(model, batch, user, target, found):
    """The logit of one target; a mixer of dense layers alone. `found` is what the long-term block gives."""
    mixed = mixer_input(model, batch, user, target, found)
    for layer in model.mixer.dense:
        mixed = np.maximum(mixed @ numbers(layer.kernel) + numbers(layer.bias), 0)
    return (mixed @ numbers(model.mixer.logit.kernel) + numbers(model.mixer.logit.bias)).item()
