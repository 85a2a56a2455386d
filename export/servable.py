"""The served graph: four signatures around the very `TwinModel.score` that training uses, with the projection table."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from export.projection_table import TOLERANCE, ItemLookup, ProjectionTable
from export.signatures import request_contract
from twin_tf.batch import Batch, History, Targets
from twin_tf.keras_api import tf
from twin_tf.model import TwinModel
from twin_tf.schema import UNKNOWN, FeatureSchema

Tensors = dict[str, tf.Tensor]


def request_spec(schema: FeatureSchema) -> dict[str, tf.TensorSpec]:
    """Inputs of `serving_default` and `retrieve`, by name.

    `B` users, `L` behaviours oldest first, `C` candidates. `history_<cross>`, `user_<feature>` and
    `context_<feature>` are indices as `twin_tf.encoders.FeatureEncoder` gives them; times are in the unit of the logs.
    """
    return {
        name: tf.TensorSpec([None] * contract.rank, tf.dtypes.as_dtype(contract.dtype), name=name)
        for name, contract in request_contract(schema).items()
    }


class Servable(tf.Module):
    """What is saved: all variables, and the four signatures over them.

    Args:
        model: trained.
        schema: its schema.
        item_ids: int64 `(items,)` raw ids by item row.
        weights_version: says which weights these are.
        table_version: says when the table was computed.
    """

    def __init__(
        self,
        model: TwinModel,
        schema: FeatureSchema,
        item_ids: npt.NDArray[np.int64],
        weights_version: int,
        table_version: int,
    ) -> None:
        super().__init__(name="twin")
        self._schema = schema
        # The variables are tracked one by one, under stable names; the Keras object itself stays out of the SavedModel.
        self.weights = {_unique_name(i, variable): variable for i, variable in enumerate(model.variables)}
        self.lookup = ItemLookup(item_ids)
        self.projection = ProjectionTable(model)
        self.raw_ids = tf.Variable(item_ids, trainable=False, name="raw_ids", dtype=tf.int64)
        self.weights_version = tf.Variable(weights_version, trainable=False, name="weights_version", dtype=tf.int64)
        self.table_version = tf.Variable(table_version, trainable=False, name="table_version", dtype=tf.int64)
        self._functions = self._signatures(model)

    @property
    def signatures(self) -> dict[str, Any]:
        """Signature name -> concrete function, for `tf.saved_model.save`."""
        return dict(self._functions)

    def _signatures(self, model: TwinModel) -> dict[str, Any]:
        spec = request_spec(self._schema)

        def concrete(function: Callable[..., Tensors], inputs: dict[str, tf.TensorSpec]) -> Any:
            return tf.function(function).get_concrete_function(**inputs)

        return {
            "serving_default": concrete(lambda **request: self._serve(model, request), spec),
            "retrieve": concrete(lambda **request: self._retrieve(model, request), spec),
            "item_projection": concrete(
                lambda item: self._item_projection(item), {"item": tf.TensorSpec([None, None], tf.int64, name="item")}
            ),
            "self_check": concrete(
                lambda probe: self._self_check(model, probe), {"probe": tf.TensorSpec([None], tf.int32, name="probe")}
            ),
        }

    def _serve(self, model: TwinModel, request: Tensors) -> Tensors:
        batch, unknown = self._batch(request)
        scores = model.score(batch, tf.convert_to_tensor(self.projection.table))
        probability = tf.sigmoid(scores.logit)
        real = tf.sequence_mask(batch.targets.count, tf.shape(probability)[1])
        outputs = {"probability": tf.where(real, probability, 0.0), "unknown_items": unknown}
        return {**outputs, **self._versions(tf.shape(probability)[0])}

    def _retrieve(self, model: TwinModel, request: Tensors) -> Tensors:
        batch, _ = self._batch(request)
        found = model.score(batch, tf.convert_to_tensor(self.projection.table)).long_term
        pairs = tf.shape(batch.targets.item)
        width = tf.shape(found.finalists.position)[2]
        shape = [pairs[0], pairs[1], width]
        real = tf.sequence_mask(batch.targets.count, pairs[1])[..., None]
        valid = tf.broadcast_to(found.finalists.valid, shape) & real
        position = tf.broadcast_to(found.finalists.position, shape)
        item = tf.gather(request["history_item"], position, batch_dims=1)
        score = tf.reduce_max(found.relevance, axis=0)
        outputs = {
            "position": tf.where(valid, position, -1),
            "item": tf.where(valid, item, tf.constant(-1, tf.int64)),
            "score": tf.where(valid, score, 0.0),
            "valid": valid,
        }
        return {**outputs, **self._versions(pairs[0])}

    def _item_projection(self, item: tf.Tensor) -> Tensors:
        rows = self.lookup.rows(item)
        projection = tf.gather(self.projection.table, rows)
        return {"projection": projection, "found": rows != UNKNOWN, **self._versions(tf.shape(item)[0])}

    def _self_check(self, model: TwinModel, probe: tf.Tensor) -> Tensors:
        worst, checked = self.projection.disagreement(model, probe)
        agrees = tf.debugging.assert_less_equal(
            worst, TOLERANCE, message="self_check: the projection table disagrees with the weights of this version"
        )
        with tf.control_dependencies([agrees] if agrees is not None else []):
            users = tf.shape(probe)
            outputs = {"disagreement": tf.fill(users, worst), "checked": tf.fill(users, checked)}
            return {**outputs, **self._versions(users[0])}

    def _versions(self, users: tf.Tensor) -> Tensors:
        return {
            "weights_version": tf.fill([users], self.weights_version.read_value()),
            "table_version": tf.fill([users], self.table_version.read_value()),
        }

    def _batch(self, request: Tensors) -> tuple[Batch, tf.Tensor]:
        """The request as a batch, and per user how many of its real ids are not in the catalogue."""
        schema = self._schema
        request = self._checked(request)
        columns, width = tf.shape(request["history_item"])[1], tf.shape(request["candidate_item"])[1]
        length = tf.clip_by_value(request["history_length"], 0, columns)
        count = tf.clip_by_value(request["candidate_count"], 0, width)
        history_rows = self.lookup.rows(request["history_item"])
        candidate_rows = self.lookup.rows(request["candidate_item"])
        # A fresh history may hold what happened at the very moment or after it: never seen, as in training.
        earlier = (request["history_time"] < request["request_time"][:, None]) & tf.sequence_mask(length, columns)
        unknown = _count((history_rows == UNKNOWN) & tf.sequence_mask(length, columns))
        unknown += _count((candidate_rows == UNKNOWN) & tf.sequence_mask(count, width))
        history = History(
            item=history_rows,
            time=request["history_time"],
            cross={f.name: request[f"history_{f.name}"] for f in schema.stored_cross},
            length=length,
        )
        targets = Targets(
            item=candidate_rows,
            time=request["request_time"][:, None],
            end=_count(earlier)[:, None],
            context={f.name: request[f"context_{f.name}"][:, None] for f in schema.stored_context},
            count=count,
        )
        user = {f.name: request[f"user_{f.name}"] for f in schema.user}
        nothing = tf.zeros([0, 0])
        batch = Batch(history, targets, user, tf.zeros_like(request["request_time"]), label=nothing, weight=nothing)
        return batch, unknown

    def _checked(self, request: Tensors) -> Tensors:
        """The request behind its shape checks: what is wrong is said before any computation trips over it."""
        history_shape = tf.shape(request["history_item"])
        checks = []
        for name, value in request.items():
            if name.startswith("history_") and value.shape.rank == 2:
                rule = f"{name} must have the shape of history_item"
                checks.append(tf.debugging.assert_equal(tf.shape(value), history_shape, message=rule))
            else:
                rule = f"{name} must have as many users as history_item"
                checks.append(tf.debugging.assert_equal(tf.shape(value)[0], history_shape[0], message=rule))
        with tf.control_dependencies([check for check in checks if check is not None]):
            return {name: tf.identity(value) for name, value in request.items()}


def _count(flags: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(flags, tf.int32), axis=1)


def _unique_name(index: int, variable: tf.Variable) -> str:
    return f"{index:03d}_{variable.name.split(':')[0].replace('/', '_')}"
