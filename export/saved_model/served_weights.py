"""The weights as they are served: under names that stay, and free to grow where they grow with the catalogue.

TensorFlow bakes a variable's number of rows into the graph. Item features and embedding tables are therefore saved with
a free first dimension: one graph serves every catalogue, and a refresh rewrites `variables/` alone.
"""

import collections
import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from twin_tf.core.keras_api import tf
from twin_tf.layers.embeddings import ItemEmbedding
from twin_tf.models.twin import TwinModel

_HOLDERS = ("item_features", "tables", "table")
"""The attributes in which layers hold what grows."""

_EARLIER_NAME = re.compile(r"\d{3}_(.+)")


class ServedWeights(tf.Module):
    """All weights of a model. The Keras object itself stays out of the SavedModel.

    Args:
        model: trained.

    Attributes:
        item_features: int32 `(items, columns)`, the catalogue, one for all layers that read it.
        item_state: what the search keeps of each item, by name; empty if it keeps nothing.
        tables: embedding tables by name.
        dense: all other weights by name.
    """

    def __init__(self, model: TwinModel) -> None:
        super().__init__(name="served_weights")
        self.item_features = model.item_embedding.item_features
        self.item_state = {f"{place}": part.item_state for place, part in enumerate(_searching(model))}
        paths = attribute_paths(model)
        self.tables = {paths[id(variable)]: variable for variable in model.embedding_variables}
        self.dense = {paths[id(variable)]: variable for variable in model.dense_variables}

    def resizable_variable(self) -> None:
        """Holds what grows in variables with a free number of rows, as a graph needs them."""
        self.item_features = resizable_variable(self.item_features)
        self.item_state = {name: resizable_variable(variable) for name, variable in self.item_state.items()}
        self.tables = {name: resizable_variable(variable) for name, variable in self.tables.items()}

    def take_earlier_names(self, checkpoint: Iterable[str]) -> None:
        """Goes by the names of a graph that was exported when variables were called by their place and Keras's name.

        Args:
            checkpoint: the names of its variables; nothing changes if they are of today's form, or of another network.
        """
        for holder in ("tables", "dense"):
            prefix, mine = f"weights/{holder}/", getattr(self, holder)
            names = sorted(name.removeprefix(prefix) for name in checkpoint if name.startswith(prefix))
            found = [_EARLIER_NAME.fullmatch(name) for name in names]
            if [_plain(name[1]) for name in found if name] == [_plain(variable.name) for variable in mine.values()]:
                setattr(self, holder, dict(zip(names, mine.values(), strict=True)))

    @contextlib.contextmanager
    def read_by(self, model: TwinModel) -> Iterator[None]:
        """Inside, the model reads these variables in place of its own, so that a graph traced here holds them.

        Args:
            model: the one that these are the weights of.
        """
        own = (variable.ref() for variable in model.embedding_variables)
        mine = dict(zip(own, self.tables.values(), strict=True))
        catalogues = (layer.item_features.ref() for layer in model.submodules if isinstance(layer, ItemEmbedding))
        mine |= dict.fromkeys(catalogues, self.item_features)
        with contextlib.ExitStack() as restored:
            for layer in model.submodules:
                # Past Keras, which would take the variables for new weights of the model.
                attributes = vars(layer)
                for holder in _HOLDERS:
                    if holder in attributes:
                        restored.callback(attributes.__setitem__, holder, attributes[holder])
                        attributes[holder] = _replaced(attributes[holder], mine)
            for part, variable in zip(_searching(model), self.item_state.values(), strict=True):
                attributes = part.__dict__
                restored.callback(attributes.__setitem__, "item_state", part.item_state)
                attributes["item_state"] = variable
            yield


def resizable_variable(value: Any, dtype: tf.DType | None = None) -> tf.Variable:
    """A variable that is not trained, whose number of rows is no part of the graph.

    Args:
        value: its value, of one dimension or more.
        dtype: another type than that of the value.
    """
    value = tf.convert_to_tensor(value) if dtype is None else tf.cast(value, dtype)
    return tf.Variable(value, trainable=False, shape=[None, *value.shape[1:]])


def attribute_paths(model: TwinModel) -> dict[int, str]:
    """The id of every variable of a model -> the attributes that lead to it, `long_term-relevance-query_kernel`.

    So checkpoints name variables. What Keras calls them has the numbers of its layers, which it counts through all
    models of a process.
    """
    view, paths, queue = tf.train.TrackableView(model), {id(model): ""}, collections.deque([model])
    while queue:
        node = queue.popleft()
        for name, child in sorted(view.children(node).items()):
            if id(child) not in paths:
                paths[id(child)] = f"{paths[id(node)]}-{name}".removeprefix("-")
                queue.append(child)
    return paths


def _plain(name: str) -> str:
    """What Keras calls a variable, without its numbers."""
    return re.sub(r"[_/:]?\d+", "", name).replace("/", "_")


def _searching(model: TwinModel) -> list[TwinModel]:
    """The networks whose search keeps something of each item."""
    return [part for part in (model, model.auxiliary) if part is not None and part.item_state is not None]


def _replaced(held: Any, mine: dict[Any, tf.Variable]) -> Any:
    if isinstance(held, dict):
        return {key: mine[variable.ref()] for key, variable in held.items()}
    return [mine[variable.ref()] for variable in held] if isinstance(held, list) else mine[held.ref()]
