"""Draws what the GSU retrieves for one real user: `python examples/retrieved_behaviours.py MODEL PREPARED [FEATURE]`.

MODEL is what `twin-tf export` wrote, PREPARED the data of its run: after `make demo`, `runs/demo/model` and
`runs/demo/prepared`. A row of the figure is a value of FEATURE (`category` if left out), a dot a behaviour.
"""

import sys
from collections import Counter

import numpy as np
import tensorflow as tf
from matplotlib import pyplot as plt

from export.contract.probe_file import load_probe_file
from twin_tf import FeatureEncoder
from twin_tf.records.format import Manifest
from twin_tf.records.input_pipeline import load_item_features

OUTPUT = "retrieved_behaviours.png"
model, prepared, feature = [*sys.argv[1:], "category"][:3]

# One request of the model's probes: that of the longest history, and its first candidate.
probes = load_probe_file(model).inputs
user = int(np.argmax(probes["history_length"]))
request = {name: tf.constant(values[user : user + 1]) for name, values in probes.items()}
found = {name: value.numpy() for name, value in tf.saved_model.load(model).signatures["retrieve"](**request).items()}
retrieved = found["position"][0, 0][found["valid"][0, 0]]

# The feature's value of every behaviour and of the candidate.
schema = Manifest.load(prepared).schema
indices, ids = load_item_features(prepared, schema)
row_of = {int(item): row for row, item in enumerate(ids)}
column = schema.inherent_slices[feature].start
names = ["", "unknown", *FeatureEncoder.load(prepared).fitted[feature]]
length = int(probes["history_length"][user])
items, target = probes["history_item"][user, :length], int(probes["candidate_item"][user, 0])
values = [names[indices[row_of.get(int(item), 1), column]] for item in items]
wanted = names[indices[row_of.get(target, 1), column]]
unit = float(schema.events.time.per_second)
days = (int(probes["request_time"][user]) - probes["history_time"][user, :length]) / unit / 86400

# The 15 values that were retrieved most, the candidate's first.
rows = [value for value, _ in Counter(values[place] for place in retrieved).most_common(15) if value != wanted]
rows = [wanted, *rows[:14]]
figure, axis = plt.subplots(figsize=(9, 0.35 * len(rows) + 1.4))
for chosen, colour in ((False, "#d5dae0"), (True, "#2f6fbf")):
    places = [n for n in range(length) if values[n] in rows and (n in set(retrieved.tolist())) == chosen]
    label = f"retrieved ({len(retrieved)})" if chosen else f"not retrieved ({length - len(retrieved)})"
    axis.scatter(days[places], [rows.index(values[n]) for n in places], s=16, color=colour, label=label)
axis.set_yticks(range(len(rows)), [str(value) for value in rows])
axis.get_yticklabels()[0].set_weight("bold")
axis.invert_yaxis()
axis.invert_xaxis()
axis.set_xlabel("days before the request")
axis.set_title(f"A user with {length} behaviours; the candidate's {feature}: {wanted}", loc="left", fontsize=10)
axis.legend(loc="upper center", bbox_to_anchor=(0.5, -1.1 / len(rows)), ncols=2, frameon=False)
figure.savefig(OUTPUT, dpi=120, bbox_inches="tight")
print(f"{OUTPUT}: {len(retrieved)} of {length} behaviours, {sum(values[n] == wanted for n in retrieved)} of {wanted}")
