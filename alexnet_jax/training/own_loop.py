"""A recipe's network, preprocessing, loss and update rule, for a training loop of one's own.

They are those of a run: `step.py` differentiates the same loss of the same input, and updates
by the same rule. Only the augmentation is drawn elsewhere (`random_input.py`).
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, UInt8
from ml_collections import FrozenConfigDict

from alexnet_jax.config.recipe_settings import settings_of_recipe
from alexnet_jax.data.given_images import (
    Statistics,
    check_classes,
    check_pixels,
    measured,
)
from alexnet_jax.model.network import Network, Params, build, root_key
from alexnet_jax.training.random_input import Augmentation, InputForm, RandomInput
from alexnet_jax.training.scheduled_rule import OptimizerSpec, Schedule, scheduled
from alexnet_jax.training.step import Objective, make_loss, make_prediction


@dataclasses.dataclass(frozen=True, eq=False)  # JAX hashes it, and arrays have no hash
class Recipe:
    """The pieces of a training loop: functions without a state, for `jax.jit` and `jax.grad`.

    Shapes are of n images `side` pixels wide, of which the network sees `crop` pixels.
    Parameters are {"conv1": {"kernel": ..., "bias": ...}, ...}. A step's key serves its
    augmentation, its dropout and its mixing of images.

    Attributes:
      settings: every choice of the recipe, in sections, with the changes.
      num_classes: logits.
      num_examples: training images, an epoch.
      statistics: the training images' mean and components of color, in gray levels.
    """

    settings: FrozenConfigDict
    num_classes: int
    num_examples: int
    statistics: Statistics

    # --- The network ------------------------------------------------------------------

    @functools.cached_property
    def network(self) -> Network:
        """The network; `outputs(params, inputs, None)` gives each layer's output by name."""
        return build(
            self.settings.model,
            image_size=self.form.crop_size,
            num_classes=self.num_classes,
        )

    def initialize(self, seed: int = 0) -> Params:
        """The initial parameters of a run with this seed."""
        return self.network.initialize(root_key(seed))

    def logits(
        self,
        params: Params,
        inputs: Float[Array, "n crop crop 3"],
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "n classes"]:
        """The network's outputs: in training, with the dropout that a step's key draws."""
        keys = None if key is None else _of_examples(key, len(inputs))
        return self.network.apply(params, inputs, keys)

    # --- Its input --------------------------------------------------------------------

    @functools.cached_property
    def form(self) -> InputForm:
        """How images become the network's input."""
        return InputForm.of(self.settings.data)

    def training_input(
        self,
        key: Key[Array, ""],
        images: UInt8[Array, "n side side 3"],
        step: Int[Array, ""] | int,
    ) -> Float[Array, "n crop crop 3"]:
        """Crops, reflections and lighting drawn by a step's key, minus the mean.

        Args:
          key: of the step.
          images: uint8 pixels, of the side of the training images.
          step: steps done; some recipes end the lighting at an epoch.

        Raises:
          UserError: if they are no such pixels.
        """
        self._check(images)
        return self._input.training(key, images, step)

    def evaluation_input(
        self, images: UInt8[Array, "n side side 3"]
    ) -> Float[Array, "n crop crop 3"]:
        """The center crops minus the mean, which do not depend on `data.eval_crops`.

        Args:
          images: uint8 pixels, of the side of the training images.

        Raises:
          UserError: if they are no such pixels.
        """
        self._check(images)
        return self._input.evaluation(images)

    def log_probabilities(
        self, params: Params, images: UInt8[Array, "n side side 3"]
    ) -> Float[Array, "n classes"]:
        """The logarithms of the probabilities by which the recipe is evaluated.

        They are those of the center crop, or the mean over ten crops (section 4.1).

        Args:
          params: the network's parameters.
          images: uint8 pixels, of the side of the training images.

        Raises:
          UserError: if they are no such pixels.
        """
        self._check(images)
        predict = make_prediction(self.network, self.form)
        return predict(params, images, jnp.asarray(self._input.mean))

    def _check(self, images: Any) -> None:
        check_pixels(images, len(self.statistics.mean_image))

    @functools.cached_property
    def _input(self) -> RandomInput:
        data, statistics = self.settings.data, self.statistics
        mean_image = statistics.mean_image
        return RandomInput(
            self.form,
            self.form.mean_of(mean_image, statistics.channel_mean),
            Augmentation.of(
                data, statistics.components(data.lighting_scale), len(mean_image)
            ),
            self.num_examples,
        )

    # --- Its training -----------------------------------------------------------------

    def loss(
        self,
        params: Params,
        inputs: Float[Array, "n crop crop 3"],
        labels: Int[Array, " n"],
        key: Key[Array, ""],
    ) -> Float[Array, ""]:
        """The mean cross-entropy in nats, with dropout; its gradient is a step's.

        The weight decay is part of the update rule. Frozen layers have gradients of zero.

        Args:
          params: those to differentiate with respect to.
          inputs: what `training_input` returns for the images.
          labels: the classes' numbers.
          key: of the step.
        """
        objective = Objective.of(self.settings)
        loss = make_loss(self.network, self._rule.frozen, objective)
        return loss(params, {}, inputs, labels, _of_examples(key, len(inputs)))[0]

    @functools.cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """The update rule with its schedule, which counts its own steps.

        `update` takes the parameters as well, which decay.
        """
        numbers = self.settings.optimizer
        return scheduled(
            self._rule,
            self._schedule,
            momentum=numbers.momentum,
            weight_decay=numbers.weight_decay,
        )

    @property
    def batch_size(self) -> int:
        """Images a step."""
        return self._schedule.batch_size

    @property
    def num_steps(self) -> int:
        """Steps of the whole training: those that the schedule is for."""
        return self._schedule.num_steps

    @property
    def _rule(self) -> OptimizerSpec:
        return OptimizerSpec.of(self.settings.optimizer, self.settings.model)

    @functools.cached_property
    def _schedule(self) -> Schedule:
        settings = self.settings
        return Schedule.of(settings.training, settings.optimizer, self.num_examples)


def recipe(
    name: str,
    images: UInt8[np.ndarray, "n side side 3"] | Iterable[np.ndarray],
    *,
    classes: int,
    changes: Mapping[str, Any] | None = None,
) -> Recipe:
    """The pieces of a training loop for one of the four AlexNets, or a variant of it.

    Args:
      name: one of `RECIPES`.
      images: the training images, uint8 pixels; or batches of them, each read once, where
        they are too many. Their mean, their colors and their number are taken.
      classes: how many there are.
      changes: values by field, such as {"preset": "small", "optimizer.learning_rate": 0.001}.

    Raises:
      UserError: if there is no such recipe, field or value, or one that a run alone reads;
        if images are no uint8 pixels, or leave a layer none.
    """
    check_classes(classes)
    num_examples, statistics = measured(images)
    side = len(statistics.mean_image)
    settings = settings_of_recipe(name, changes or {}, side)
    made = Recipe(settings, classes, num_examples, statistics)
    made.network  # noqa: B018  (raises where a layer has no pixels)
    return made


def _of_examples(key: Key[Array, ""], count: int) -> Key[Array, " n"]:
    """A key of each example, as `step.dropout_keys` makes them of an epoch's."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(count))
