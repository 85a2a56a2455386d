"""TWIN's attention in a Keras model of your own, on random data: a user clicks items of the kinds in the history."""

import numpy as np
import tf_keras as keras

from twin_tf import TwinAttention

USERS, LENGTH, TARGETS, ITEMS, KINDS = 3000, 500, 16, 400, 20
generator = np.random.default_rng(1)
liked = np.argsort(generator.random((USERS, KINDS)), axis=1)[:, :4]  # the kind of an item is its number modulo KINDS
kind = np.take_along_axis(liked, generator.integers(0, 4, (USERS, LENGTH)), axis=1)
history = kind + KINDS * generator.integers(0, ITEMS // KINDS, kind.shape)
target = generator.integers(0, ITEMS, (USERS, TARGETS))
likes = (target[:, :, None] % KINDS == liked[:, None, :]).any(axis=2)
click = generator.random(likes.shape) < np.where(likes, 0.9, 0.1)
age = np.tile(np.arange(LENGTH, 0, -1), (USERS, 1))

embedding = keras.layers.Embedding(ITEMS, 16)
behaviours, candidates, ages = (keras.Input((None,), dtype="int64") for _ in range(3))
query, items = embedding(candidates), embedding(behaviours)
attention = TwinAttention(heads=2, head_size=16, top_k=50, age_boundaries=[50, 200], init_scale=100.0)
found = attention(query, items, ages=ages)  # .output (B, C, 32), .indices (B, C, 50), .weights (B, C, 2, 50)
mixed = keras.layers.Dense(64, "relu")(keras.layers.Concatenate()([found.output, query]))
model = keras.Model([behaviours, candidates, ages], keras.layers.Dense(1, "sigmoid")(mixed))
model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", metrics=[keras.metrics.AUC(name="auc")])
train, test = slice(0, 2500), slice(2500, None)
model.fit([history[train], target[train], age[train]], click[train, :, None], batch_size=50, epochs=3, verbose=2)
print(model.evaluate([history[test], target[test], age[test]], click[test, :, None], verbose=0, return_dict=True))
