"""The served graph: five signatures around the very `TwinModel.score` that training uses, with the projection table."""

import functools
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.contract.signatures import (
    CONTRACT_OUTPUT,
    SignatureContract,
    TensorContract,
    expected_signatures,
    request_contract,
)
from export.saved_model.digests import Digests
from export.saved_model.item_lookup import ItemLookup
from export.saved_model.projection_table import TOLERANCE, ProjectionTable
from export.saved_model.request_checks import Tensors, checked
from export.saved_model.served_weights import ServedWeights
from twin_tf.config import ServingConfig
from twin_tf.core.dataclass_yaml import ConfigError
from twin_tf.core.keras_api import graph, tf
from twin_tf.features.request_names import CANDIDATE_ITEM, HISTORY_ITEM
from twin_tf.features.schema import PADDING, UNKNOWN, FeatureSchema
from twin_tf.models.index_rows import counted_of_items, index_rows
from twin_tf.models.twin import TwinModel
from twin_tf.records.batch import Batch
from twin_tf.records.request_batch import request_batch

_VERSIONS = ("weights_version", "table_version")
VARIABLES = Path("variables/variables")
_DIGESTS = "digests/"
_GROWING = (
    "digests/earlier",
    "lookup/",
    "projection/",
    "weights/item_features/",
    "weights/item_state/",
    "weights/tables/",
)
"""Where the variables lie whose number of rows is the catalogue's or a vocabulary's."""


def request_spec(schema: FeatureSchema) -> dict[str, tf.TensorSpec]:
    """Inputs of `serving_default` and `retrieve`, by name.

    `B` users, `L` behaviours oldest first, `C` candidates. `history_<cross>`, `user_<feature>`, `context_<feature>`
    and `candidate_<feature>` are indices as `twin_tf.features.encoders.FeatureEncoder` gives them; times are in the
    unit of the logs.
    """
    return _specs(request_contract(schema))


def _specs(contracts: Mapping[str, TensorContract]) -> dict[str, tf.TensorSpec]:
    return {
        name: tf.TensorSpec([None] * contract.rank, tf.dtypes.as_dtype(contract.dtype), name=name)
        for name, contract in contracts.items()
    }


class Servable(tf.Module):
    """What is saved: all variables, and the five signatures over them.

    Making one computes the table. The graph is traced when `signatures` is first asked for: a refresh, which rewrites
    the variables under a graph that exists, does not pay for it.

    Args:
        model: trained.
        schema: its schema.
        item_ids: int64 `(items,)` raw ids by item row.
        weights_version: says which weights these are.
        table_version: says when the table was computed.
        table_dtype: of the projection table, see `ServingConfig.table`.
        projections: the table's content, where it was computed elsewhere from the same weights.
        max_candidates: see `ServingConfig.max_candidates`; None where the variables are for an earlier graph, which
            has no bound and no output `adjusted`.

    Raises:
        ConfigError: a projection that `table_dtype` cannot hold, or `projections` of another shape.
    """

    def __init__(
        self,
        model: TwinModel,
        schema: FeatureSchema,
        item_ids: npt.NDArray[np.int64],
        weights_version: int,
        table_version: int,
        table_dtype: str = "float32",
        projections: npt.NDArray[np.float32] | None = None,
        max_candidates: int | None = ServingConfig.max_candidates,
    ) -> None:
        super().__init__(name="twin")
        self._schema = schema
        self.max_candidates = max_candidates
        self.weights = ServedWeights(model)
        self.lookup = ItemLookup(item_ids)
        self.projection = ProjectionTable(model, table_dtype, projections)
        self.digests = Digests()
        self.weights_version = tf.Variable(weights_version, trainable=False, name="weights_version", dtype=tf.int64)
        self.table_version = tf.Variable(table_version, trainable=False, name="table_version", dtype=tf.int64)
        # A function, not an attribute: the Keras object stays out of the SavedModel.
        self._trace: Callable[[], dict[str, Any]] = lambda: self._traced(model)

    @functools.cached_property
    def signatures(self) -> dict[str, Any]:
        """Signature name -> concrete function, for `tf.saved_model.save`."""
        return self._trace()

    def write_variables(self, version_dir: str | Path) -> None:
        """Rewrites the variables of a model directory that was exported from a servable of the same network.

        The catalogue and the vocabularies may be others. `fingerprint.pb`, which would no longer tell the truth, goes.

        Args:
            version_dir: not yet published; killed half-way, its variables are gone.

        Raises:
            ConfigError: the directory's graph is of another network; it stays as it was then.
        """
        directory = Path(version_dir)
        fresh = directory / "variables.fresh"
        self.weights.take_earlier_names(_shapes(directory / VARIABLES))
        try:
            tf.train.Checkpoint(root=self).write(str(fresh / VARIABLES.name))
            _check_same_network(directory / VARIABLES, fresh / VARIABLES.name)
            shutil.rmtree(directory / VARIABLES.parent)
            fresh.rename(directory / VARIABLES.parent)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        (directory / "fingerprint.pb").unlink(missing_ok=True)

    def _traced(self, model: TwinModel) -> dict[str, Any]:
        bodies: dict[str, Callable[[Tensors], Tensors]] = {
            "serving_default": lambda request: self._serve(model, request),
            "retrieve": lambda request: self._retrieve(model, request),
            "item_projection": lambda request: self._item_projection(request["item"]),
            "live_projection": lambda request: self._live_projection(model, request),
            "self_check": lambda request: self._self_check(model, request["probe"]),
        }
        self.weights.resizable_variable()
        with self.weights.read_by(model):
            return {
                name: self._concrete(bodies[name], contract)
                for name, contract in expected_signatures(self._schema).items()
            }

    def _concrete(self, body: Callable[[Tensors], Tensors], contract: SignatureContract) -> Any:
        def signature(**inputs: tf.Tensor) -> Tensors:
            request = checked(inputs, contract.inputs, self._most_columns())
            outputs = body(request)
            users = tf.shape(next(iter(request.values())))[0]
            versions = {name: tf.fill([users], getattr(self, name).read_value()) for name in _VERSIONS}
            return {**outputs, **versions, CONTRACT_OUTPUT: tf.fill([users], self.digests.contract.read_value())}

        return graph(signature).get_concrete_function(**_specs(contract.inputs))

    def _most_columns(self) -> dict[str, int]:
        most = {HISTORY_ITEM: self._schema.history.max_length}
        if self.max_candidates is not None:
            most |= {CANDIDATE_ITEM: self.max_candidates, "item": self.max_candidates}
        return most

    def _serve(self, model: TwinModel, request: Tensors) -> Tensors:
        batch, counts = self.batch(model, request)
        scores = model.score(batch, self.projection.whole())
        probability = tf.sigmoid(scores.logit)
        real = tf.sequence_mask(batch.targets.count, tf.shape(probability)[1])
        return {"probability": tf.where(real, probability, 0.0), **counts}

    def _retrieve(self, model: TwinModel, request: Tensors) -> Tensors:
        batch, counts = self.batch(model, request)
        found = model.score(batch, self.projection.whole()).long_term
        pairs = tf.shape(batch.targets.item)
        width = tf.shape(found.retrieved.position)[2]
        shape = [pairs[0], pairs[1], width]
        real = tf.sequence_mask(batch.targets.count, pairs[1])[..., None]
        valid = tf.broadcast_to(found.retrieved.valid, shape) & real
        position = tf.broadcast_to(found.retrieved.position, shape)
        item = tf.gather(request[HISTORY_ITEM], position, batch_dims=1)
        score = tf.reduce_max(found.relevance, axis=2)
        return {
            "position": tf.where(valid, position, -1),
            "item": tf.where(valid, item, tf.constant(-1, tf.int64)),
            "score": tf.where(valid, score, 0.0),
            "valid": valid,
            **counts,
        }

    def _item_projection(self, item: tf.Tensor) -> Tensors:
        rows = self.lookup.rows(item)
        return {"projection": self.projection.rows(rows), "found": rows != UNKNOWN}

    def _live_projection(self, model: TwinModel, request: Tensors) -> Tensors:
        """As `item_projection`; of the items that the table does not know, from those features that are given."""
        answer = self._item_projection(request["item"])
        given, known_as = [], []
        for feature in self._schema.inherent:
            index = request[f"item_{feature.name}"]
            if feature.multi_valued is None:
                index = index[..., None]
                known_as.append(tf.where(index == PADDING, UNKNOWN, index))
            else:  # of no value at all, the embedding itself makes an unknown one
                known_as.append(index)
            given.append(index)
        live = ~answer["found"] & tf.reduce_any(tf.concat(given, axis=-1) != PADDING, axis=-1)
        place = tf.where(live)
        features = tf.gather_nd(tf.concat(known_as, axis=-1), place)
        projected = self.projection.rounded(model.project_features(features))
        projection = tf.tensor_scatter_nd_update(answer["projection"], place, projected)
        return {"projection": projection, "found": answer["found"], "live": live}

    def _self_check(self, model: TwinModel, probe: tf.Tensor) -> Tensors:
        worst, checked_rows = self.projection.disagreement(model, probe)
        agrees = tf.debugging.assert_less_equal(
            worst, TOLERANCE, message="self_check: the projection table disagrees with the weights of this version"
        )
        with tf.control_dependencies([agrees] if agrees is not None else []):
            users = tf.shape(probe)
            return {
                "disagreement": tf.fill(users, worst),
                "checked": tf.fill(users, checked_rows),
                "assets": tf.fill(users, self.digests.assets.read_value()),
                "understood": self.digests.understood(users[0]),
            }

    def batch(self, model: TwinModel, request: Tensors) -> tuple[Batch, Tensors]:
        """The inputs of `serving_default` as a batch, and the counts of `request_batch`."""
        counted = functools.partial(counted_of_items, model)
        return request_batch(request, self._schema, self.lookup.rows, index_rows(model), counted)


def _check_same_network(before: Path, after: Path) -> None:
    """Whether a graph that reads the one checkpoint can read the other."""
    old, new = (_shapes(path) for path in (before, after))
    for name in sorted({*old, *new}):
        unread = name.startswith(_DIGESTS) and name not in old  # by a graph that was made before there were digests
        if old.get(name) != new.get(name) and not unread:
            raise ConfigError(
                f"{before.parent.parent} is a graph of another network: its variable {name} is "
                f"{old.get(name, 'missing')}, here it is {new.get(name, 'missing')}; export the run as a whole"
            )


def _shapes(checkpoint: Path) -> dict[str, str]:
    reader = tf.train.load_checkpoint(str(checkpoint))
    types = reader.get_variable_to_dtype_map()
    shapes = {}
    for name, shape in reader.get_variable_to_shape_map().items():
        if name.endswith("VARIABLE_VALUE"):
            free = ["rows", *shape[1:]] if name.startswith(_GROWING) else shape
            shapes[name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")] = f"{types[name].name} {free}"
    return shapes
