"""Scores prepared targets with a trained run, without a server: `python examples/load_a_run.py RUN PREPARED`.

A request's arrays, as a client sends them, are scored by `run.predict(request)`.

After `make demo`, RUN is a folder in `runs/demo/runs` and PREPARED is `runs/demo/prepared`.
"""

import sys

import tensorflow as tf

from twin_tf import load_run
from twin_tf.evaluation.metrics import MetricsAccumulator
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import make_dataset

run = load_run(sys.argv[1])
manifest = Manifest.load(sys.argv[2])
metrics = MetricsAccumulator()

for batch in make_dataset(manifest, "test", run.model.window, batch_records=8):
    probability = tf.sigmoid(run.model.score(batch).logit)  # (batch, targets)
    real = tf.sequence_mask(batch.targets.count, tf.shape(probability)[1])
    user = tf.broadcast_to(batch.user_id[:, None], tf.shape(probability))
    metrics.update(*(tf.boolean_mask(values, real).numpy() for values in (batch.label, probability, user)))

found = metrics.result()
print(f"{found.targets} targets, AUC {found.auc:.4f}, GAUC {found.gauc:.4f}")
