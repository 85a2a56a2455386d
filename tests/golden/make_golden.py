"""Makes the golden files beside it: what the code of one commit left behind, which later code must still read.

    python -m tests.golden.make_golden            # from the top of the checkout, 5 minutes

They are made once, by the code before the first file moved, and not made again: what they prove is that later code
reads what this one wrote. Every directory is a `.tar.xz`; plots and TensorBoard's files are left out.

    raw        simulated logs of 24 users
    prepared   of `raw`, and what it must still give
    run        trained on `prepared` with `config.yaml`
    stopped    the same, killed in the middle of its second epoch, after 12 of 16 steps
    model      exported from `run`
    clustered  `prepared` with the clusters (TWIN-V2) that `run` makes
    variants   runs of one epoch, one for each kind of weights and each name of a setting that `run` does not have
    expected.json   what the commands said: metrics, probabilities, the requests of `predict`

Since records are shuffled in pools, they come in another order: `resumed` (what `stopped` is trained to) and
`warm_start` of `expected.json` were made anew by the code of that change. The scores of the variants are of records
chosen by time, and by the first code.
"""

import json
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

GOLDEN = Path(__file__).parent
CONFIG = GOLDEN / "config.yaml"
EXPECTED = GOLDEN / "expected.json"
ARTEFACTS = ("raw", "prepared", "run", "stopped", "model", "clustered", "variants")
LEFT_OUT = ("tensorboard", ".lock", "truth")

LOGS = "--users 24 --seed 5 --set days=40 --set items=120 --set topics=12 --set median_history=40 --set max_history=70 \
--set targets=700 --set explore=0.2"
LIVE = ("training.projections=live",)
EMBEDDED = (*LIVE, "training.item_embeddings=embeddings")
VARIANTS = {
    "auxiliary": ("model.consistency=auxiliary",),
    "raw": (*LIVE, "model.relevance=raw"),
    **{
        search: (*LIVE, f"model.search={search}")
        for search in ("memory", "learned_inner_product", "simhash", "hash_rounds", "recent", "category")
    },
    **{search: (*EMBEDDED, f"model.search={search}") for search in ("item_clusters", "inner_product")},
}
"""Variant -> settings that differ from `config.yaml`."""

TRAINED_FIGURES = ("loss", "kept", "valid")
"""Of a training's report."""


def data_of(variant):
    """The data that a variant was trained on."""
    return "clustered" if variant == "auxiliary" else "prepared"


def first_scores(run, prepared):
    """The eight records of the test split that begin first, scored by a run: probabilities, whatever the batches."""
    from twin_tf.records.format import Manifest
    from twin_tf.records.input_pipeline import make_dataset
    from twin_tf.runs.run import load_run

    model = load_run(run).model
    found = {}
    for batch in make_dataset(Manifest.load(prepared), "test", model.window, 1):
        logits = model(batch).numpy()[0, : int(batch.targets.count[0])]
        found[int(batch.targets.time[0, 0]), int(batch.user_id[0])] = (1 / (1 + np.exp(-logits))).tolist()
    return [score for key in sorted(found)[:8] for score in found[key]]


def twin(root, *arguments):
    """Runs a command; returns what it says with `--json`."""
    command = [sys.executable, "-m", "twin_tf.cli", *map(str, arguments), "--json"]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def train_arguments(root, prepared, run, *settings):
    changed = (part for setting in settings for part in ("--set", setting))
    return ("train", "--config", CONFIG, "--prepared", root / prepared, "--run", root / run, *changed)


def stop_in_the_middle(root):
    """Kills a training once the checkpoint of step 12 is whole."""
    arguments = map(str, train_arguments(root, "prepared", "stopped"))
    with subprocess.Popen([sys.executable, "-m", "twin_tf.cli", *arguments]) as process:
        while not (root / "stopped/checkpoints/ckpt-12.json").exists():
            time.sleep(0.005)
        process.kill()
    names = {path.name for path in (root / "stopped/checkpoints").glob("*.json")}
    assert names == {"ckpt-8.json", "ckpt-9.json", "ckpt-12.json"}, names


def requests(raw):
    """Requests as an application sends them: two users of the logs, an unknown one, unknown values."""
    events = pq.read_table(raw / "events.parquet").to_pylist()
    users = {user.pop("user_id"): user for user in pq.read_table(raw / "users.parquet").to_pylist()}
    items = [item["video_id"] for item in pq.read_table(raw / "items.parquet").to_pylist()]
    moment = max(event["time"] for event in events) + 60_000
    columns = ("video_id", "time", "play_time", "completion", "page_position")
    found = []
    for user in sorted(users)[:2]:
        clicks = [event for event in events if event["user_id"] == user and event["click"]][-15:]
        history = [{column: event[column] for column in columns} for event in clicks]
        context = {"page_position": 3}
        asked = {"history": history, "user": users[user], "context": context, "candidates": items[::40]}
        found.append({**asked, "request_time": moment})
    odd = {"age_group": "no such", "device": "fridge"}
    found.append({"user": odd, "request_time": moment, "candidates": [items[5], 1]})
    return [*found, {**found[0], "history": found[0]["history"][:3], "user": odd, "context": {}}]


def make(root):
    """All artefacts but `stopped`; returns what is expected of them."""
    twin(root, "simulate", "--output", root / "raw", *shlex.split(LOGS))
    logs = [part for log in ("events", "items", "users") for part in (f"--{log}", root / f"raw/{log}.parquet")]
    manifest = twin(root, "preprocess", "--config", CONFIG, *logs, "--output", root / "prepared", "--shards", 1)
    report = twin(root, *train_arguments(root, "prepared", "run"))
    evaluation = twin(root, "evaluate", "--run", "run", "--prepared", root / "prepared")
    warm = twin(root, *train_arguments(root, "prepared", "warm", "training.epochs=1"), "--init-from", "run")
    twin(root, "export", "--run", "run", "--output", "model")
    twin(root, "cluster", "--config", CONFIG, "--prepared", "prepared", "--run", "run", "--output", "clustered")
    twin(root, "item-embeddings", "--prepared", "prepared", "--output", "embeddings", "--width", 8)
    for name, settings in VARIANTS.items():
        twin(root, *train_arguments(root, data_of(name), f"variants/{name}", *settings, "training.epochs=1"))
    return {
        "counts": manifest["counts"],
        "evaluation": evaluation,
        "run": {key: report[key] for key in TRAINED_FIGURES},
        "resumed": {key: report[key] for key in TRAINED_FIGURES},
        "warm_start": {key: warm[key] for key in TRAINED_FIGURES},
        "variants": {name: first_scores(root / "variants" / name, root / data_of(name)) for name in VARIANTS},
        "predict": answers(root),
    }


def answers(root):
    """What `predict` says, beside each request."""
    from export.local_server.server import start_local_server

    shutil.copytree(root / "model", root / "serving/1700000000")
    found = []
    with start_local_server(root / "serving") as server:
        for request in requests(root / "raw"):
            (root / "request.json").write_text(json.dumps(request), encoding="utf-8")
            asked = ("--server", server.address, "--model", "model", "--request", "request.json", "--timeout", 60)
            found.append({"request": request, "answer": twin(root, "predict", *asked)})
    return found


def kept(path):
    """Whether a file of an artefact is kept: of a variant's checkpoints the one that it hands on."""
    if path.suffix == ".png" or not set(path.parts).isdisjoint(LEFT_OUT):
        return False
    if "variants" not in path.parts or path.parent.name != "checkpoints" or path.name == "checkpoint":
        return True
    handed_on = (path.parent / "checkpoint").read_text(encoding="utf-8").split('"')[1]
    return path.name.partition(".")[0] == handed_on


def pack(root, name):
    """Writes one artefact; the same files give the same bytes."""
    for path in (root / name).rglob("run.json"):  # wherever it was trained is nobody's business
        info = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**info, "prepared": "/golden/prepared"}, indent=1) + "\n", encoding="utf-8")
    with tarfile.open(GOLDEN / f"{name}.tar.xz", "w:xz", preset=9) as archive:
        for path in sorted((root / name).rglob("*")):
            if path.is_file() and kept(path):
                entry = archive.gettarinfo(path, str(path.relative_to(root)))
                entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
                with path.open("rb") as file:
                    archive.addfile(entry, file)


def unpack(root):
    """Unpacks all artefacts into a directory."""
    for name in ARTEFACTS:
        with tarfile.open(GOLDEN / f"{name}.tar.xz") as archive:
            archive.extractall(root, filter="data")


def main():
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        expected = make(root)
        stop_in_the_middle(root)
        for name in ARTEFACTS:
            pack(root, name)
    EXPECTED.write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
