"""Builds the toy models of these tests, in a process of its own: the only one here with TensorFlow's Python.

python build_toys.py DIRECTORY
"""

import json
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

ROWS, WIDTH, FIRST = 50, 8, 100  # known items are the ids FIRST to FIRST + ROWS - 1

SCHEMA = """
name: toy
events:
  user: {column: user}
  item: {column: item}
  time: {column: time}
  label: {column: label}
users: {column: user}
features:
  - {name: product, role: inherent, column: item, type: int, encoding: {kind: hash, buckets: 50}}
  - {name: price, role: cross, encoding: {kind: numeric, boundaries: [1, 2, 3]}}
  - {name: hour, role: cross, derived: hour_of_day}
  - {name: segment, role: user, encoding: {kind: identity, size: 4}}
  - {name: page, role: context, encoding: {kind: identity, size: 9}}
"""

INT64, INT32 = tf.int64, tf.int32
REQUEST = {
    "history_item": tf.TensorSpec([None, None], INT64, "history_item"),
    "history_length": tf.TensorSpec([None], INT32, "history_length"),
    "history_time": tf.TensorSpec([None, None], INT64, "history_time"),
    "history_price": tf.TensorSpec([None, None], INT32, "history_price"),
    "request_time": tf.TensorSpec([None], INT64, "request_time"),
    "candidate_item": tf.TensorSpec([None, None], INT64, "candidate_item"),
    "candidate_count": tf.TensorSpec([None], INT32, "candidate_count"),
    "user_segment": tf.TensorSpec([None], INT32, "user_segment"),
    "context_page": tf.TensorSpec([None], INT32, "context_page"),
}


class Toy(tf.Module):
    """Scores a candidate by its inner product with the mean of the history, read from a projection table."""

    def __init__(self, seed):
        super().__init__()
        generator = np.random.default_rng(seed)
        self.embedding = tf.Variable(generator.normal(size=(ROWS, WIDTH)).astype(np.float32))
        self.w = tf.Variable(generator.normal(size=(WIDTH, WIDTH)).astype(np.float32) / WIDTH)
        self.price = tf.Variable(generator.normal(size=8).astype(np.float32))
        self.table = tf.Variable(self.embedding @ self.w, trainable=False)
        self.version = tf.Variable(np.int64(seed), trainable=False)

    def rows(self, item):
        known = (item >= FIRST) & (item < FIRST + ROWS)
        return tf.where(known, item - FIRST, 0), known

    def versions(self, like):
        return {name: tf.fill([tf.shape(like)[0]], self.version) for name in ("weights_version", "table_version")}

    def scores(self, inputs):
        rows, known = self.rows(inputs["history_item"])
        width = tf.shape(rows)[1]
        real = tf.sequence_mask(inputs["history_length"], width, tf.float32)
        weight = real * tf.cast(known, tf.float32) * (1 + tf.gather(self.price, inputs["history_price"]))
        history = tf.einsum("bl,bld->bd", weight, tf.gather(self.table, rows)) / (tf.reduce_sum(real, 1)[:, None] + 1)
        candidate, _ = self.rows(inputs["candidate_item"])
        return tf.einsum("bd,bcd->bc", history, tf.gather(self.embedding, candidate))

    @tf.function(input_signature=[REQUEST])
    def serve(self, inputs):
        logit = self.scores(inputs)
        logit += 0.1 * tf.cast(inputs["user_segment"] + inputs["context_page"], tf.float32)[:, None]
        logit += 1e-9 * tf.cast(inputs["request_time"], tf.float32)[:, None]
        real = tf.sequence_mask(inputs["candidate_count"], tf.shape(logit)[1], tf.float32)
        _, known = self.rows(inputs["candidate_item"])
        unknown = tf.reduce_sum(tf.cast(~known, tf.int32) * tf.cast(real, tf.int32), 1)
        counts = {"unknown_items": unknown, "adjusted": tf.zeros_like(unknown)}
        return {"probability": tf.sigmoid(logit) * real, **counts, **self.versions(logit)}

    @tf.function(input_signature=[tf.TensorSpec([None, None], INT64, "item")])
    def item_projection(self, item):
        rows, known = self.rows(item)
        return {"projection": tf.gather(self.table, rows), "found": known, **self.versions(item)}

    @tf.function(
        input_signature=[tf.TensorSpec([None, None], INT64, "item"), tf.TensorSpec([None, None], INT32, "item_product")]
    )
    def live_projection(self, item, item_product):
        answer = self.item_projection(item)
        return {**answer, "live": ~answer["found"] & (item_product > 0)}

    @tf.function(input_signature=[REQUEST])
    def retrieve(self, inputs):
        score = self.scores(inputs)[:, :, None]
        item = tf.broadcast_to(inputs["history_item"][:, None, :1], tf.shape(score))
        zeros = tf.zeros_like(score, tf.int32)
        answer = {"position": zeros, "item": item, "score": score, "valid": score > -1e9}
        counts = {"unknown_items": zeros[:, 0, 0], "adjusted": zeros[:, 0, 0]}
        return {**answer, **counts, **self.versions(item)}

    @tf.function(input_signature=[tf.TensorSpec([None], INT32, "probe")])
    def self_check(self, probe):
        difference = tf.reduce_max(tf.abs(self.table - self.embedding @ self.w))
        check = tf.debugging.assert_less(difference, 1e-4, "the table disagrees with the weights")
        with tf.control_dependencies([check] if check is not None else []):
            users = tf.shape(probe)
            answer = {"disagreement": tf.fill(users, difference), "checked": tf.fill(users, ROWS)}
            return {**answer, **self.versions(probe)}


def requests(count, length=12, candidates=5, seed=3):
    """Random requests as the contract has them, some with unknown items, some without any history."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(0, length + 1, count)
    lengths[0] = 0
    return {
        "history_item": generator.integers(FIRST - 5, FIRST + ROWS + 5, (count, length)),
        "history_length": lengths.astype(np.int32),
        "history_time": np.sort(generator.integers(0, 10**6, (count, length)), axis=1),
        "history_price": generator.integers(0, 6, (count, length)).astype(np.int32),
        "request_time": generator.integers(10**6, 10**7, count),
        "candidate_item": generator.integers(FIRST - 5, FIRST + ROWS + 5, (count, candidates)),
        "candidate_count": generator.integers(1, candidates + 1, count).astype(np.int32),
        "user_segment": generator.integers(0, 6, count).astype(np.int32),
        "context_page": generator.integers(0, 11, count).astype(np.int32),
    }


def signatures(toy):
    return {
        "serving_default": toy.serve,
        "item_projection": toy.item_projection,
        "live_projection": toy.live_projection,
        "retrieve": toy.retrieve,
        "self_check": toy.self_check,
    }


def save(toy, directory, functions=None):
    """Writes a version directory with everything the contract asks for."""
    probes = requests(40)
    expected = toy.serve({name: tf.constant(value) for name, value in probes.items()})["probability"].numpy()
    tf.saved_model.save(toy, str(directory), signatures=functions or signatures(toy))
    extra = directory / "assets.extra"
    extra.mkdir(exist_ok=True)
    (extra / "schema.yaml").write_text(SCHEMA)
    (extra / "export.json").write_text(json.dumps({"weights_version": int(toy.version.numpy())}))
    # The clicks are the better half of the real candidates in this model's own eyes: its AUC is 1.
    real = np.arange(expected.shape[1]) < probes["candidate_count"][:, None]
    label = (real & (expected > np.median(expected[real]))).astype(np.float32)
    arrays = {f"input/{k}": v for k, v in probes.items()}
    np.savez(extra / "probes.npz", **arrays, **{"expected/probability": expected, "expected/label": label})
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        for name, inputs in (("serving_default", requests(2)), ("self_check", {"probe": np.arange(4, dtype=np.int32)})):
            request = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name="twin", signature_name=name))
            for key, value in inputs.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictLog(request=request)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


class Echo(tf.Module):
    """Returns what it is given, of every type the session must carry."""

    @tf.function(
        input_signature=[
            {
                "text": tf.TensorSpec([None], tf.string, "text"),
                "flag": tf.TensorSpec([None], tf.bool, "flag"),
                "half": tf.TensorSpec([], tf.float16, "half"),
                "number": tf.TensorSpec(None, tf.float32, "number"),
            }
        ]
    )
    def echo(self, inputs):
        return {
            "text": inputs["text"],
            "joined": tf.strings.reduce_join(inputs["text"], separator="|"),
            "not_flag": ~inputs["flag"],
            "half": inputs["half"] * 2,
            "number": inputs["number"] + 1,
            "length": tf.strings.length(inputs["text"]),
        }


def main(root):
    toy = Toy(seed=1)
    save(toy, root / "good")
    np.savez(root / "python_result.npz", **{k: v.numpy() for k, v in toy.serve(requests(7, seed=9)).items()})
    save(toy, root / "no_retrieve", {k: v for k, v in signatures(toy).items() if k != "retrieve"})

    @tf.function(input_signature=[REQUEST])
    def doubles(inputs):
        answer = toy.serve(inputs)
        return {**answer, "probability": tf.cast(answer["probability"], tf.float64)}

    save(toy, root / "doubles", {**signatures(toy), "serving_default": doubles})

    @tf.function(input_signature=[REQUEST])
    def logits(inputs):
        answer = toy.serve(inputs)
        return {**answer, "probability": 2 * answer["probability"] - 1}

    save(toy, root / "logits", {**signatures(toy), "serving_default": logits})

    @tf.function(jit_compile=True, input_signature=[tf.TensorSpec([None], tf.float32)])
    def compiled(x):
        return x * 2

    @tf.function(input_signature=[tf.TensorSpec([None], INT32, "probe")])
    def xla_check(probe):
        zeros = compiled(tf.zeros_like(probe, tf.float32))
        return {"disagreement": zeros, "checked": probe, **toy.versions(probe)}

    save(toy, root / "xla", {**signatures(toy), "self_check": xla_check})

    @tf.function(input_signature=[tf.TensorSpec([None], INT32, "probe")])
    def host_check(probe):
        text = tf.io.read_file("/etc/hostname")
        noise = tf.numpy_function(lambda x: x, [tf.random.uniform([1])], tf.float32)
        tf.print(text)
        zeros = tf.zeros_like(probe, tf.float32) + noise
        return {"disagreement": zeros, "checked": probe, **toy.versions(probe)}

    save(toy, root / "host", {**signatures(toy), "self_check": host_check})
    save(Toy(seed=2), root / "second")
    stale = Toy(seed=1)
    stale.table.assign_add(0.5 * tf.ones_like(stale.table))
    save(stale, root / "stale_table")
    echo = Echo()
    tf.saved_model.save(echo, str(root / "echo"), signatures={"serving_default": echo.echo})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
