"""What the served weights say of the assets beside them, in variables, so that a refresh renews it under one graph."""

from collections.abc import Sequence

from export.saved_model.served_weights import resizable_variable
from twin_tf.core.keras_api import tf
from twin_tf.features.contract import Contract, number_of


class Digests(tf.Module):
    """Digests as int64 numbers, 0 until `sign`.

    Attributes:
        contract: of the schema and vocabularies that the weights were trained with; every answer says it.
        assets: of the files of `assets.extra`, see `file_manifest.assets_digest`.
        earlier: `(n,)`, the contracts that this one grew from: whoever encodes by one of them is understood.
    """

    def __init__(self) -> None:
        super().__init__(name="digests")
        self.contract = tf.Variable(0, trainable=False, name="contract", dtype=tf.int64)
        self.assets = tf.Variable(0, trainable=False, name="assets", dtype=tf.int64)
        self.earlier = resizable_variable([0], tf.int64)

    def sign(self, contract: Contract, earlier: Sequence[str], assets: str) -> None:
        """Ties the weights to what lies beside them.

        Args:
            contract: of the schema and vocabularies.
            earlier: digests of the contracts whose indices mean the same.
            assets: the digest of the assets.
        """
        self.contract.assign(contract.number)
        self.assets.assign(number_of(assets))
        self.earlier.assign([contract.number, *(number_of(digest) for digest in earlier)])

    def understood(self, users: tf.Tensor) -> tf.Tensor:
        """int64 `(users, n)`: the contract and all that it grew from."""
        return tf.tile(tf.convert_to_tensor(self.earlier)[None, :], [users, 1])
