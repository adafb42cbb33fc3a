"""A trained network with what it takes to use it: classes, mean image, preprocessing."""

import contextlib
import dataclasses
import functools
import itertools
import os
import sys
from collections.abc import (
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Float32, UInt8
from ml_collections import FrozenConfigDict

from alexnet_jax.config.checkpoint_fields import fields_of
from alexnet_jax.data.photographs import GivenImage, read_ahead, square
from alexnet_jax.data.types import ALL_IMAGES, Source
from alexnet_jax.errors import UserError, nearest
from alexnet_jax.model.network import Network, build
from alexnet_jax.trained.forward import Forward
from alexnet_jax.trained.guesses import Guess
from alexnet_jax.trained.measuring import BATCH, Errors, measure
from alexnet_jax.training.preprocess import InputForm, center_input
from alexnet_jax.training.saved_network import ExportedNetwork, write_exported
from alexnet_jax.training.step import Params, make_prediction
from alexnet_jax.training.trained_on import Statistics, TrainedOn, of_no_run

CROPS = {1: "center", 10: "ten"}


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A network and everything that comes with its weights.

    Its first answer places a copy of the weights on every device, which stays there as long
    as the network; copying or pickling it leaves these out.

    Attributes:
      origin: where it was read from, as messages and records name it.
      settings: the configuration of its training, in sections.
      params: the weights, by layer, in host memory.
      trained_on: its classes, and the statistics that its preprocessing subtracts.
      step: training steps done; 0 if that is not known.
      measured: what its last evaluation in training has measured: "step", "loss",
        "top1_error", "top5_error", "split"; empty if there was none.
    """

    origin: str
    settings: FrozenConfigDict
    params: Params
    trained_on: TrainedOn
    step: int = 0
    measured: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @staticmethod
    def from_training(
        settings: FrozenConfigDict,
        params: Params,
        *,
        class_names: Iterable[Any],
        statistics: Statistics,
    ) -> "TrainedNetwork":
        """A network that a training loop of one's own has trained.

        Args:
          settings, statistics: those of its `Recipe`.
          params: the weights, by layer.
          class_names: in the order of the labels; written out if they are numbers.

        Raises:
          UserError: if there are more or fewer names than logits.
        """
        names = tuple(map(str, class_names))
        *_, last = params.values()
        if len(names) != len(last["bias"]):
            raise UserError(
                f"{len(names)} names of classes for a network of {len(last['bias'])} logits: "
                "give one for each label."
            )
        trained_on = of_no_run("images of one's own", names, statistics)
        weights = jax.tree.map(np.asarray, params)
        return TrainedNetwork("the trained network", settings, weights, trained_on)

    def __getstate__(self) -> dict[str, Any]:
        """Its attributes: what was compiled, and copies on devices, are made anew."""
        return {of.name: getattr(self, of.name) for of in dataclasses.fields(self)}

    # --- What it is -------------------------------------------------------------------

    def __repr__(self) -> str:
        """Short, as its weights are not: where it is from, and its classes and training."""
        return (
            f"<TrainedNetwork {self.origin}: recipe {self.settings.recipe}, "
            f"{len(self.class_names)} classes of {self.trained_on.dataset}, step {self.step}>"
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits."""
        return self.trained_on.class_names

    @functools.cached_property
    def form(self) -> InputForm:
        """How images become its input."""
        return InputForm.of(self.settings.data)

    @functools.cached_property
    def network(self) -> Network:
        """The network as functions of its parameters."""
        return build(
            self.settings.model,
            image_size=self.form.crop_size,
            num_classes=len(self.class_names),
        )

    @functools.cached_property
    def mean(self) -> Float32[np.ndarray, "h w 3"]:
        """What is subtracted from each image, in gray levels."""
        statistics = self.trained_on.statistics
        return self.form.mean_of(statistics.mean_image, statistics.channel_mean)

    @property
    def layers(self) -> list[str]:
        """The names of the layers, from first to last."""
        side = self.form.crop_size
        names: list[str] = []

        def run(params: Params, x: jax.Array) -> None:
            # JAX would return the dictionary sorted by its keys.
            names.extend(self.network.outputs(params, x, None))

        jax.eval_shape(
            run, self.params, jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
        )
        return names

    @property
    def compared_layer(self) -> str:
        """The one whose features say how alike images are: fc7 as in the paper.

        In a network without it, it is the last hidden layer.
        """
        return "fc7" if "fc7" in self.layers else self.layers[-2]

    # --- What it does -----------------------------------------------------------------

    def classify(
        self, images: Iterable[GivenImage], *, top: int = 5, crops: int = 1
    ) -> list[list[Guess]]:
        """The most probable classes of each image, best first.

        Args:
          images: paths of image files, their bytes, or uint8 pixels (height, width, 3).
          top: how many classes an image.
          crops: 1 for the center crop; 10 for the average over ten (section 4.1).

        Raises:
          UserError: if an image cannot be read.
        """
        return self.guesses(self.probabilities(images, crops=crops), top)

    def guesses(
        self, probabilities: Float32[np.ndarray, "n classes"], top: int
    ) -> list[list[Guess]]:
        """The `top` most probable classes of each image; of equals, the first comes first."""
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
        return [
            [Guess(self.class_names[k], float(row[k])) for k in chosen]
            for row, chosen in zip(probabilities, best, strict=True)
        ]

    def probabilities(
        self, images: Iterable[GivenImage], *, crops: int = 1
    ) -> Float32[np.ndarray, "n classes"]:
        """The probability of each class for each image.

        Args:
          images: paths of image files, their bytes, or uint8 pixels (height, width, 3).
          crops: 1 for the center crop; 10 for the average over ten.

        Raises:
          UserError: if an image cannot be read.
        """
        parts = list(self.probability_batches(self.batches(images), crops=crops))
        return np.concatenate(parts) if parts else self._nothing(len(self.class_names))

    def features(
        self, images: Iterable[GivenImage], layer: str = "fc7"
    ) -> Float32[np.ndarray, "n ..."]:
        """What a layer passes on, for the center crop of each image.

        That is after activation, normalization and pooling: (n, units) of a dense layer,
        (n, height, width, channels) of a convolution. The last layer's are the logits.

        Args:
          images: paths of image files, their bytes, or uint8 pixels (height, width, 3).
          layer: one of `layers`.

        Raises:
          UserError: if there is no such layer, or an image cannot be read.
        """
        parts = list(self.feature_batches(self.batches(images), layer))
        return np.concatenate(parts) if parts else self._nothing(0)

    def feature_batches(
        self, batches: Iterable[UInt8[np.ndarray, "n side side 3"]], layer: str
    ) -> Iterator[Float32[np.ndarray, "n ..."]]:
        """What a layer passes on for rescaled images, in batches such as `batches` yields."""
        self.check_layer(layer)
        function = functools.partial(_features, self.network, self.form, layer)
        outputs = self._forward.of(layer, lambda: function)
        for batch in batches:
            yield outputs(batch).astype(np.float32, copy=False)

    def check_layer(self, layer: str) -> None:
        """Raises UserError if there is no such layer."""
        if layer not in (known := self.layers):
            raise UserError(
                f"{self.origin} has no layer '{layer}': it has {', '.join(known)}."
                f"{nearest(layer, known)}"
            )

    def probability_batches(
        self, batches: Iterable[UInt8[np.ndarray, "n side side 3"]], *, crops: int
    ) -> Iterator[Float32[np.ndarray, "n classes"]]:
        """The probabilities of batches of rescaled images, such as `batches` yields."""
        predict = self._forward.of(crops, lambda: self.prediction(crops))
        for batch in batches:
            yield np.exp(predict(batch))

    def prediction(self, crops: int) -> Callable[..., jax.Array]:
        """(params, images, mean) -> log-probabilities, to be compiled.

        Raises:
          UserError: if `crops` is neither 1 nor 10.
        """
        if crops not in CROPS:
            raise UserError(f"{crops} crops: give 1, the center, or 10.")
        form = dataclasses.replace(self.form, eval_crops=CROPS[crops])
        return make_prediction(self.network, form)

    def evaluate(self, dataset: str, *, crops: int = 1, tfds_dir: str = "") -> Errors:
        """Its errors on a dataset's held-out images, else on all that did not train it.

        Args:
          dataset: digits, a TFDS name, folder=PATH or npz=FILE; classes match by name.
          crops: 1 for the center crop; 10 for the average over ten (section 4.1).
          tfds_dir: the data folder of TensorFlow Datasets; if empty, that of its training.

        Raises:
          UserError: if the dataset is not there, has a class that the network does not
            know, or holds an image that cannot be read.
        """
        source = self.open_to_measure(dataset, tfds_dir)
        return measure([self], source, crops=crops)

    def open_dataset(self, dataset: str = "", tfds_dir: str = "") -> Source:
        """A dataset as training opens it; without a name, that of its training.

        Raises:
          UserError: if it is not there.
        """
        # TensorFlow takes seconds to import, and image files do without.
        from alexnet_jax.data.open import open_source

        data = self.settings.data
        return open_source(dataset or data.dataset, tfds_dir=tfds_dir or data.tfds_dir)

    def open_to_measure(
        self,
        dataset: str = "",
        tfds_dir: str = "",
        *,
        beside: Sequence["TrainedNetwork"] = (),
    ) -> Source:
        """A dataset whose validation split is all that there is to measure it on.

        That are its validation images, else its test images. Where none are held out, it is
        every image, unless the network was trained on this dataset, by its
        fingerprint: then, and without a name, it is what the evaluation in training measured.

        Args:
          dataset, tfds_dir: a dataset's name and TFDS's folder; if empty, the training's.
          beside: networks that are measured on it too.

        Raises:
          UserError: if it is not there, or holds no labeled images.
        """
        if not dataset:
            return self.open_dataset(dataset, tfds_dir)
        # TensorFlow takes seconds to import, and image files do without.
        from alexnet_jax.data.open import open_source

        known = [each.trained_on for each in (self, *beside)]
        source = open_source(
            dataset,
            tfds_dir=tfds_dir or self.settings.data.tfds_dir,
            trained_on={each.fingerprint for each in known},
        )
        whole = source.validation.name == ALL_IMAGES
        if whole and source.name in {each.dataset for each in known}:
            print(
                f"Note: {source.name} is called as a dataset of the training, but its files "
                "are others: all images are measured, and the network may have been trained "
                "on some of them.",
                file=sys.stderr,
                flush=True,
            )
        return source

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it as one .safetensors file, which `alexnet_jax.load` opens anywhere.

        For other formats see `trained.exchange.exporting.export`.

        Raises:
          UserError: if the name does not end in .safetensors.
          OSError: if the file cannot be written.
        """
        path = Path(path).expanduser()
        if path.suffix != ".safetensors":
            raise UserError(f"{path}: give a name that ends in .safetensors.")
        fields = fields_of(self.settings)
        held = (self.params, fields, self.trained_on, self.step, self.measured)
        write_exported(path, ExportedNetwork(*held))

    # --- Its input --------------------------------------------------------------------

    def square(
        self, image: GivenImage, *, apply_orientation: bool = False
    ) -> UInt8[np.ndarray, "side side 3"]:
        """An image rescaled as the training images were, before it is cropped."""
        data = self.settings.data
        return square(
            image,
            size=data.rescale_size,
            method=data.rescale,
            apply_orientation=apply_orientation,
        )

    def batches(
        self, images: Iterable[GivenImage]
    ) -> Iterator[UInt8[np.ndarray, "n side side 3"]]:
        """The rescaled images in batches, decoded while others are in use."""
        decoded = self.decoded(images)
        with contextlib.closing(decoded):
            while part := list(itertools.islice(decoded, BATCH)):
                yield np.stack([_readable(one) for one in part])

    def decoded(
        self, images: Iterable[GivenImage], *, apply_orientation: bool = False
    ) -> Generator[UInt8[np.ndarray, "side side 3"] | UserError, None, None]:
        """Each image rescaled, or why it cannot be read; threads decode some ahead."""
        if isinstance(images, str | bytes | os.PathLike):
            raise UserError("A single image: give a list of images, [image].")
        read = functools.partial(self.square, apply_orientation=apply_orientation)
        return read_ahead(images, read, most=2 * BATCH)

    @functools.cached_property
    def _forward(self) -> Forward:
        return Forward(self.params, self.mean)

    def _nothing(self, width: int) -> np.ndarray:
        return np.zeros((0, width), np.float32)


def _features(
    network: Network,
    form: InputForm,
    layer: str,
    params: Params,
    images: UInt8[jax.Array, "n side side 3"],
    mean: Float[jax.Array, "h w 3"],
) -> jax.Array:
    return network.outputs(params, center_input(images, mean, form), None)[layer]


def _readable(decoded: np.ndarray | UserError) -> np.ndarray:
    """The image; raises the error that stands in its place."""
    if isinstance(decoded, UserError):
        raise decoded
    return decoded
