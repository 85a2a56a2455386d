"""The pictures of docs/concepts.md."""

import numpy as np
from canvas import BLUE, GREEN, INK, ORANGE, PAPER, PURPLE, SOFT, YELLOW, Canvas

from beam_pipelines.clustering.recursive_kmeans import split_recursively

ENDS = (4, 7, 9)
"""Where the history ends for each of the three targets that are drawn."""

COLOURS = ("#2f6fbf", "#c8701b", "#2f8f4e", "#7550b8", "#b58a00", "#b0413e", "#3aa6a6", "#6b7c8c", "#d06ba5", "#7a9a2f")
"""Of clusters."""


def user_major() -> Canvas:
    """One record: a history once, and three targets that attend to their part of it."""
    canvas = Canvas(11.0, 4.2)
    canvas.text((0.15, 0.3), "One record of one user", bold=True, align="left")
    names = [f"b{number}" for number in range(1, 11)]
    canvas.text((0.15, 0.95), "history/item  (n)", align="left", font=8.5)
    canvas.cells((1.75, 0.72), names, (0.52, 0.45), [BLUE] * 10)
    canvas.text((1.75, 0.58), "oldest", font=7.5, colour=SOFT, align="left")
    canvas.text((6.6, 0.58), "newest", font=7.5, colour=SOFT)
    for row, end in enumerate(ENDS):
        y = 1.5 + row * 0.52
        canvas.text((0.15, y + 0.2), f"target {row + 1}", align="left", font=8.5)
        canvas.cells((1.75, y), [f"sees b1 to b{end}"], (0.52 * end, 0.4), [BLUE])
        canvas.cells((1.75 + 0.52 * end, y), [""], (0.52 * (10 - end), 0.4), [PAPER])
    canvas.text((0.15, 3.3), "target/item  (m)", align="left", font=8.5)
    canvas.cells((1.75, 3.1), ["t1", "t2", "t3"], (0.52, 0.4), [ORANGE] * 3)
    canvas.text((0.15, 3.8), "target/history_end", align="left", font=8.5)
    canvas.cells((1.75, 3.6), [str(end) for end in ENDS], (0.52, 0.4), [YELLOW] * 3)
    canvas.text((3.6, 3.3), "strictly earlier behaviours only:", font=8, colour=SOFT, align="left")
    canvas.text((3.6, 3.55), "a target never sees its own future", font=8, colour=SOFT, align="left")
    canvas.box((7.5, 0.55), (3.35, 1.55), "Training and evaluation", GREEN,
               note="history (B, L)  x  targets (B, C)\neach target has its own history_end\nlogit (B, C)")  # fmt: skip
    canvas.box((7.5, 2.35), (3.35, 1.55), "Serving: the same call", PURPLE,
               note="history (B, L)  x  candidates (B, C)\n"
               "all candidates see the whole history\nprobability (B, C)")  # fmt: skip
    return canvas


def gsu_esu() -> Canvas:
    """Both stages around one relevance, with the shapes of the tensors."""
    canvas = Canvas(11.0, 5.6)
    canvas.box((0.15, 0.5), (1.9, 1.0), "history", BLUE, note="item rows (B, L)\ncross features (B, L)")
    canvas.box((0.15, 3.9), (1.9, 1.0), "targets", YELLOW, note="item rows (B, C)\nhistory_end, time (B, C)")
    canvas.box((2.75, 0.5), (1.95, 1.0), "keys  K_h W^h", BLUE, note="(A, B, W, d)\ngathered from a table")
    canvas.box((2.75, 3.9), (1.95, 1.0), "queries  q^T W^q", YELLOW, note="(A, B, C, d)")
    canvas.arrow((2.08, 1.0), (2.72, 1.0))
    canvas.arrow((2.08, 4.4), (2.72, 4.4))
    canvas.box((2.75, 2.0), (1.95, 1.4), "one Relevance", PURPLE, bold=True,
               note="W^q, W^h, w_j, beta\neq. 6; used by both\nstages")  # fmt: skip
    canvas.arrow((3.72, 1.53), (3.72, 1.97))
    canvas.arrow((3.72, 3.87), (3.72, 3.43))
    canvas.text((7.75, 0.2), "GSU: all columns, no gradient", bold=True, colour="#2f6fbf")
    canvas.box((5.35, 0.5), (2.15, 1.0), "relevance of all", BLUE, note="alpha (A, B, C, W)\n+ bias of cross features")
    canvas.box(
        (8.2, 0.5),
        (2.6, 1.0),
        "merge the heads' lists",
        BLUE,
        note="top_k unique behaviours\nindices (B, C, K), K = 100",
    )
    canvas.arrow((4.73, 2.35), (5.6, 1.53))
    canvas.arrow((7.53, 1.0), (8.17, 1.0))
    canvas.text((7.75, 2.3), "ESU: the retrieved behaviours, with gradient", bold=True, colour="#c8701b")
    canvas.box((8.2, 2.55), (2.6, 0.95), "union of a user's targets", ORANGE, note="(B, U); each embedded once")
    canvas.arrow((9.5, 1.53), (9.5, 2.52))
    canvas.box((5.35, 2.55), (2.15, 0.95), "relevance again", ORANGE, note="alpha (B, C, A, K)\nsoftmax over K")
    canvas.arrow((8.17, 3.0), (7.53, 3.0))
    canvas.arrow((4.73, 2.85), (5.32, 2.95))
    canvas.box((5.35, 4.0), (2.15, 0.95), "pool the values", ORANGE, note="weights x K W^v  (eq. 7)\n(B, C, A d)")
    canvas.arrow((6.42, 3.53), (6.42, 3.97))
    canvas.arrow((8.6, 3.53), (7.53, 4.25))
    canvas.box((8.2, 4.0), (2.6, 0.95), "Concat(heads) W^o", ORANGE, note="(B, C, A d)  (eq. 8)\nto the mixer")
    canvas.arrow((7.53, 4.6), (8.17, 4.6))
    canvas.text((0.15, 5.35), "A heads of width d · B users · L behaviours stored · W visible columns, newest first · "
                "C targets · K retrieved · U in the union", font=8, colour=SOFT, align="left")  # fmt: skip
    return canvas


def projection_table() -> Canvas:
    """Where the item half of the relevance comes from: in training, and in serving."""
    canvas = Canvas(11.0, 4.4)
    canvas.text((0.15, 0.25), "Training: the live weights project the batch's distinct items", bold=True, align="left")
    canvas.box((0.15, 0.5), (1.8, 0.95), "item rows", BLUE, note="(B, L), with repeats")
    canvas.box((2.5, 0.5), (1.8, 0.95), "distinct items", BLUE, note="(N)")
    canvas.box((4.85, 0.5), (1.8, 0.95), "embeddings  K_h", BLUE, note="(N, H)")
    canvas.box((7.2, 0.5), (1.6, 0.95), "K_h W^h", PURPLE, note="(N, A d)")
    canvas.box((9.35, 0.5), (1.5, 0.95), "keys", GREEN, note="(B, W, A d)")
    for start, end, label in ((1.98, 2.47, ""), (4.33, 4.82, ""), (6.68, 7.17, "W^h"), (8.83, 9.32, "gather")):
        canvas.arrow((start, 0.97), (end, 0.97), label)
    canvas.text((0.15, 1.9), "Serving: a table that was projected ahead", bold=True, align="left")
    canvas.box((0.15, 3.15), (1.8, 0.95), "raw item ids", BLUE, note="(B, L) of the request")
    canvas.box((2.5, 3.15), (1.8, 0.95), "item rows", BLUE, note="unknown ids: row 1")
    canvas.box((5.2, 2.15), (3.0, 0.75), "every item's K_h W^h", PURPLE, note="export, then refresh every 15 minutes")
    canvas.box(
        (5.2, 3.15),
        (3.0, 0.95),
        "projection table",
        PURPLE,
        bold=True,
        note="(items, A d), beside the weights\nin the SavedModel",
    )
    canvas.box((9.35, 3.15), (1.5, 0.95), "keys", GREEN, note="(B, W, A d)")
    canvas.arrow((1.98, 3.62), (2.47, 3.62))
    canvas.arrow((4.33, 3.62), (5.17, 3.62))
    canvas.arrow((6.7, 2.93), (6.7, 3.12))
    canvas.arrow((8.23, 3.62), (9.32, 3.62), "gather")
    canvas.text((8.45, 2.35), "A request multiplies no", align="left", font=8, colour=SOFT)
    canvas.text((8.45, 2.57), "behaviour's embedding by W^h.", align="left", font=8, colour=SOFT)
    return canvas


def clusters() -> Canvas:
    """A made-up user's behaviours, clustered by the project's own recursive k-means."""
    canvas = Canvas(11.0, 4.3)
    generator = np.random.default_rng(3)
    centres = np.array([[1.0, 1.5], [2.0, 3.2], [3.2, 1.4], [4.1, 3.1]])
    kind = np.repeat(np.arange(4), (55, 30, 18, 8))
    points = centres[kind] + generator.normal(0, 0.3, (len(kind), 2))
    cluster = split_recursively(points.astype(np.float32), np.zeros(len(points), np.int64), gamma=20)
    canvas.text((0.15, 0.25), f"{len(points)} behaviours, by the embedding of their item", bold=True, align="left")
    count = np.bincount(cluster)
    for number in range(len(count)):
        mine, colour = points[cluster == number], COLOURS[number % len(COLOURS)]
        middle = mine.mean(axis=0)
        for point in mine:
            canvas.axis.plot(*zip(middle, point, strict=True), color=colour, linewidth=0.5, alpha=0.5)
        canvas.axis.scatter(mine[:, 0], mine[:, 1], s=13, color=colour)
        nearest = mine[np.square(mine - middle).sum(axis=1).argmin()]
        canvas.axis.scatter(*nearest, s=85, facecolors="none", edgecolors=INK, linewidths=1.3)
    canvas.axis.scatter(0.3, 4.12, s=85, facecolors="none", edgecolors=INK, linewidths=1.3)
    canvas.text((0.45, 4.12), "nearest to the centroid: gives the cluster its item", align="left", font=8, colour=SOFT)
    canvas.arrow((5.0, 2.1), (5.75, 2.1))
    canvas.text(
        (5.9, 0.25), f"{len(count)} entries in their place, each of gamma = 20 at most", bold=True, align="left"
    )
    width = 4.9 / len(count)
    canvas.text((5.9, 0.75), "history/item: that of the nearest member", font=8, colour=SOFT, align="left")
    fills = [f"{COLOURS[number % len(COLOURS)]}44" for number in range(len(count))]
    canvas.cells((5.9, 0.9), [f"c{number + 1}" for number in range(len(count))], (width, 0.42), fills)
    canvas.text((5.9, 1.6), "history/count: n, the size of the cluster", font=8, colour=SOFT, align="left")
    canvas.cells((5.9, 1.75), [str(n) for n in count], (width, 0.42), [PAPER] * len(count))
    canvas.text((5.9, 2.45), "ln n, added to the relevance in both stages", font=8, colour=SOFT, align="left")
    canvas.cells((5.9, 2.6), [f"{np.log(n):.1f}" for n in count], (width, 0.42), [PAPER] * len(count))
    canvas.text((5.9, 3.45), "softmax(alpha + ln n) is proportional to n exp(alpha):", align="left", font=9)
    canvas.text((5.9, 3.75), "a cluster attracts as n equal behaviours would.", align="left", font=9)
    return canvas
