"""The pictures of the whole: from logs to a served probability, and the rooms of the code."""

from canvas import BLUE, GREEN, ORANGE, PAPER, PURPLE, YELLOW, Canvas


def system() -> Canvas:
    """Logs, records, training, SavedModel, serving."""
    canvas = Canvas(11.0, 3.75)
    top, height = 0.1, 1.1
    columns = [
        (0.05, 1.45, "raw logs", "JSON Lines, CSV,\nParquet, BigQuery", PAPER),
        (1.9, 1.45, "beam_pipelines", "twin-tf preprocess", BLUE),
        (3.75, 1.55, "records", "one a user: history\nand its targets", PAPER),
        (5.7, 1.1, "twin_tf", "twin-tf train", GREEN),
        (7.35, 1.35, "export", "twin-tf export,\nvalidate, publish", ORANGE),
        (9.15, 1.8, "SavedModel", "base_path/<version>\nwith projection table", PAPER),
    ]
    for number, (x, width, text, note, fill) in enumerate(columns):
        canvas.box((x, top), (width, height), text, fill, note=note, bold=fill != PAPER)
        if number:
            before = columns[number - 1]
            canvas.arrow((before[0] + before[1] + 0.03, top + 0.55), (x - 0.03, top + 0.55), "run" * (text == "export"))
    below = top + height
    canvas.box((3.75, 1.6), (1.55, 0.75), "cluster", BLUE, note="TWIN-V2")
    canvas.arrow((4.3, below + 0.03), (4.3, 1.57))
    canvas.arrow((4.8, 1.57), (4.8, below + 0.03))
    canvas.box((7.35, 1.6), (1.35, 0.75), "refresh", ORANGE, note="every 15 minutes")
    canvas.arrow((6.5, below + 0.03), (7.32, 1.85))
    canvas.arrow((8.73, 1.85), (9.5, below + 0.03))
    canvas.box((9.15, 2.65), (1.8, 1.0), "TensorFlow Serving", PURPLE, note="stock server", bold=True)
    canvas.arrow((10.05, below + 0.03), (10.05, 2.62))
    canvas.box((5.45, 2.65), (1.75, 1.0), "your application", YELLOW, note="TwinClient,\ngRPC or REST")
    canvas.arrow((7.23, 2.98), (9.12, 2.98), "history, C candidates")
    canvas.arrow((9.12, 3.4), (7.23, 3.4), "C probabilities")
    canvas.box(
        (1.9, 2.65), (1.75, 1.0), "history store", PAPER, note="yours; loads the\nrecords' histories/", dashed=True
    )
    canvas.arrow((3.9, below + 0.03), (2.85, 2.62), dashed=True)
    canvas.arrow((3.68, 3.15), (5.42, 3.15), "a user's history", dashed=True)
    return canvas


def rooms() -> Canvas:
    """The rooms, and which way imports run."""
    canvas = Canvas(11.0, 5.5)
    canvas.box(
        (3.0, 0.1), (5.0, 0.75), "twin_tf/cli · twin_tf/experiments", YELLOW, note="start all that is below", bold=True
    )
    groups = [
        (0.1, 3.1, "beam_pipelines", BLUE,
         ["build_examples and its four sisters", "examples   clustering", "datasets   data_report", "raw_logs", "io"]),
        (3.6, 3.8, "twin_tf", GREEN,
         ["training", "evaluation", "runs", "models", "search", "layers", "records", "features   config"]),
        (7.8, 3.1, "export", ORANGE,
         ["local_server", "gate   publishing", "saved_model", "session   client", "contract   protos"]),
    ]  # fmt: skip
    for x, width, name, fill, rows in groups:
        canvas.box((x, 1.3), (width, 3.4), "", PAPER)
        canvas.text((x + width / 2, 1.5), name, bold=True)
        height = 2.95 / len(rows)
        for number, row in enumerate(rows):
            canvas.box((x + 0.15, 1.68 + number * height), (width - 0.3, height - 0.06), row, fill)
    canvas.box((3.6, 4.9), (3.8, 0.5), "twin_tf/core: YAML, files, locks, errors", fill=PURPLE)
    for end in (1.65, 5.5, 9.35):
        canvas.arrow((5.5, 0.88), (end, 1.27))
    canvas.arrow((3.23, 2.8), (3.57, 2.8))
    canvas.arrow((7.77, 2.8), (7.43, 2.8))
    canvas.arrow((5.5, 4.7), (5.5, 4.88))
    return canvas
