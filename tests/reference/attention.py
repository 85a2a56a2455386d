"""TWIN's equations 4 to 8, the merge of heads and the evidence, in loops that can be read beside the paper.

Eq. 4 stands in the arguments: K = [K_h K_c] comes as `item_embeddings` (K_h) and `cross_vectors` (the J parts of K_c).
"""

import numpy as np


def relevance(query, item_embeddings, query_kernel, item_kernel, cross_vectors, cross_kernels, beta, heads):
    """Eq. 5 and 6 for one target.

    query (H,), item_embeddings (L, H), kernels (H, heads * d), cross_vectors: list of (L, dim_j), cross_kernels: list
    of (dim_j, heads), beta (J,). Returns (heads, L).
    """
    length, width = len(item_embeddings), query_kernel.shape[1] // heads
    alpha = np.zeros((heads, length))
    for head in range(heads):
        columns = slice(head * width, (head + 1) * width)
        projected_query = query @ query_kernel[:, columns]
        for behaviour in range(length):
            projected_item = item_embeddings[behaviour] @ item_kernel[:, columns]
            alpha[head, behaviour] = projected_item @ projected_query / np.sqrt(width)
            for j, vectors in enumerate(cross_vectors):
                alpha[head, behaviour] += beta[j] * (vectors[behaviour] @ cross_kernels[j][:, head])
    return alpha


def raw_relevance(query, vectors, query_kernel, key_kernel, heads):
    """Plain multi-head target attention's relevance: vectors (L, H + C) is the full, unsplit K. Returns (heads, L)."""
    width = query_kernel.shape[1] // heads
    alpha = np.zeros((heads, len(vectors)))
    for head in range(heads):
        columns = slice(head * width, (head + 1) * width)
        for behaviour in range(len(vectors)):
            key = vectors[behaviour] @ key_kernel[:, columns]
            alpha[head, behaviour] = key @ (query @ query_kernel[:, columns]) / np.sqrt(width)
    return alpha


def merge_heads(alpha, visible, count, null=None):
    """Section 4.3: walk the heads' lists in turn until `count` unique behaviours are collected; ties: newest first.

    With `null` (heads,), a head's list ends where its alpha is lower.
    """
    heads, length = alpha.shape
    ranked = []
    for head in range(heads):
        wanted = [i for i in range(length) if visible[i] and (null is None or alpha[head, i] >= null[head])]
        ranked.append(sorted(wanted, key=lambda i, head=head: (-alpha[head, i], -i)))
    chosen = []
    for rank in range(length):
        for head in range(heads):
            if len(chosen) == count:
                return chosen
            if rank < len(ranked[head]) and ranked[head][rank] not in chosen:
                chosen.append(ranked[head][rank])
    return chosen


def target_attention(alpha, retrieved, vectors, value_kernel, output_kernel, null=None):
    """Eq. 7 and 8: vectors (L, H + C) is the full K; zero where nothing is retrieved. Returns (heads * d,).

    With `null` (heads,), a key of that relevance and the value 0 is looked at too.
    """
    heads = len(alpha)
    width = value_kernel.shape[1] // heads
    parts = []
    for head in range(heads):
        values = vectors @ value_kernel[:, head * width : (head + 1) * width]
        if not retrieved:
            parts.append(np.zeros(width))
            continue
        largest = alpha[head, retrieved].max()
        weights = np.exp(alpha[head, retrieved] - largest)
        nothing = 0.0 if null is None else np.exp(null[head] - largest)
        parts.append(weights @ values[retrieved] / (weights.sum() + nothing))
    return np.concatenate(parts) @ output_kernel


def relevance_statistics(alpha, retrieved):
    """Per head ln(sum(exp(alpha))) of what is retrieved, then per head the maximum; zeros if nothing is."""
    if not retrieved:
        return np.zeros(2 * len(alpha))
    largest = alpha[:, retrieved].max(axis=1)
    total = np.exp(alpha[:, retrieved] - largest[:, None]).sum(axis=1)
    return np.concatenate([np.log(total) + largest, largest])


def equality_bias(target, behaviours, slices, kernel):
    """Per head, the sum of e over the features of which target and behaviour share a known value: (heads, L).

    target (columns,) and behaviours, a list of (columns,): feature indices; slices: the columns of each feature; kernel
    (features, heads).
    """
    added = np.zeros((kernel.shape[1], len(behaviours)))
    for place, behaviour in enumerate(behaviours):
        for feature, columns in enumerate(slices):
            if {value for value in target[columns] if value > 1} & set(behaviour[columns]):
                added[:, place] += kernel[feature]
    return added


def graded_counts(alpha, retrieved, self_relevance, levels):
    """Soft counts of what is retrieved around each level of alpha by self-relevance: (levels * heads,)."""
    found = []
    for level in levels:
        for head in range(len(alpha)):
            share = alpha[head, retrieved] / max(self_relevance[head], 0.5)
            found.append(np.log1p(np.exp(-((share - level) ** 2) / (2 * 0.1**2)).sum()))
    return np.array(found)
