"""What the training steps minimize, beside weight decay: the mean of these losses."""

import dataclasses

import optax
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class Objective:
    """The loss of an example: fields of the section `training`."""

    @staticmethod
    def of(settings: ConfigDict) -> "Objective":
        """What a trial's settings ask for."""
        return Objective()

    def losses(
        self, logits: Float[Array, "n classes"], labels: Int[Array, " n"]
    ) -> Float[Array, " n"]:
        """The loss of each example, in nats: cross-entropy."""
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
