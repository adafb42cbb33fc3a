"""What the training steps minimize, beside weight decay: the mean of these losses."""

import dataclasses

import jax
import optax
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class Objective:
    """The loss of an example: fields of the section `training`.

    Attributes:
      label_smoothing: the share of the label that is spread evenly over all classes;
        Szegedy et al., "Rethinking the Inception Architecture" (2016), section 7.
    """

    label_smoothing: float = 0.0

    @staticmethod
    def of(settings: ConfigDict) -> "Objective":
        """What a trial's settings ask for."""
        return Objective(settings.training.label_smoothing)

    def losses(
        self, logits: Float[Array, "n classes"], labels: Int[Array, " n"]
    ) -> Float[Array, " n"]:
        """The loss of each example, in nats: cross-entropy."""
        if self.label_smoothing:
            certain = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
            smoothed = optax.smooth_labels(certain, self.label_smoothing)
            return optax.softmax_cross_entropy(logits, smoothed)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
