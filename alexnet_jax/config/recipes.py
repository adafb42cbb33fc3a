"""Which AlexNet: the choices of the four networks of that name, one row per choice.

paper        the text of 2012; where it is silent, the reading in the note
source2012   network 145 of the code released in 2025, which produced the published numbers
caffe        bvlc_alexnet of 2013
torchvision  the one-tower network of "One weird trick" (2014), as PyTorch ships it

The choices concern the input and the update rule as well as the network, and are the
defaults of the configuration. `docs/recipes.md` is generated from them.
"""

import dataclasses

Value = bool | int | float | str | tuple

RECIPES = ("paper", "source2012", "caffe", "torchvision")

# The recipe whose numbers were published, and the one that starts to learn most reliably.
DEFAULT = "source2012"

# The four-layer network of Figure 1 belongs to none of them.
NO_RECIPE = "none"


@dataclasses.dataclass(frozen=True)
class Choice:
    """One choice: its value in each recipe, and a note on where it comes from."""

    paper: Value
    source2012: Value
    caffe: Value
    torchvision: Value
    note: str = ""

    def of(self, recipe: str) -> Value:
        return getattr(self, recipe)


def shared(value: Value, note: str = "") -> Choice:
    """A choice in which the four recipes agree, or that only some of them use."""
    return Choice(value, value, value, value, note)


CHOICES: dict[str, Choice] = {
    # --- The network ---
    "model.channels": Choice(
        (96, 256, 384, 384, 256, 0, 4096, 4096),
        (96, 256, 384, 384, 256, 0, 4096, 4096),
        (96, 256, 384, 384, 256, 0, 4096, 4096),
        (64, 192, 384, 256, 256, 0, 4096, 4096),
        "the networks pre-trained on more of ImageNet had a conv6 of 256 channels",
    ),
    "model.towers": Choice(
        2, 2, 2, 1, "conv2, conv4 and conv5 read their own tower only"
    ),
    "model.conv1_padding": Choice(
        "both",
        "after",
        "none",
        "both",
        "both: 2 and 2; after: 0 and 3, from rounding up in the code; the text mentions none",
    ),
    "model.activation": shared("relu"),
    "model.layer1_order": Choice(
        "activation norm pool",
        "norm pool activation",
        "activation norm pool",
        "activation norm pool",
        "the code normalizes signed values in layer 1",
    ),
    "model.layer2_order": shared("activation norm pool"),
    "model.normalization": Choice(
        "local_response",
        "local_response",
        "local_response",
        "none",
        "none does not switch within_channel_norm off; the code's ablation (148) removed both",
    ),
    "model.norm_depth": shared(5),
    "model.norm_k": Choice(2.0, 2.0, 1.0, 2.0),
    "model.norm_alpha": Choice(
        1e-4, 2e-5, 2e-5, 1e-4, "factor of the sum; the code and Caffe divide 1e-4 by 5"
    ),
    "model.norm_beta": shared(0.75),
    "model.norm_across_towers": Choice(
        True,
        False,
        True,
        False,
        "N is 'the total number of kernels in the layer'; the code stays within a tower",
    ),
    "model.within_channel_norm": Choice(
        False,
        True,
        False,
        False,
        "a second normalization in layer 2 that the text does not mention",
    ),
    "model.within_channel_norm_size": shared(5),
    "model.within_channel_norm_k": shared(
        1.0, "from the public kernels; those of 2012 were not released"
    ),
    "model.within_channel_norm_alpha": shared(4e-5, "0.001 / 25"),
    "model.within_channel_norm_beta": shared(0.75),
    "model.pool_window": shared(3),
    "model.pool_stride": shared(2),
    "model.pool_rounding": Choice(
        "up", "up", "up", "down", "no difference at 55, 27 and 13 pixels"
    ),
    "model.pool_ties": Choice(
        "first",
        "all",
        "first",
        "first",
        "cuda-convnet passes the gradient to all maxima",
    ),
    "model.dropout_rate": shared(0.5),
    "model.dropout_form": Choice(
        "mask",
        "mask",
        "inverted",
        "inverted",
        "mask: evaluation scales; inverted: training scales",
    ),
    "model.dropout_place": Choice(
        "after",
        "after",
        "after",
        "before",
        "relative to fc6 and fc7: before leaves the input of fc8 without dropout",
    ),
    "model.initialization": Choice(
        "normal",
        "normal",
        "normal",
        "fan_in",
        "fan_in: uniform within 1/sqrt(inputs) of zero",
    ),
    "model.weight_stds": Choice(
        (0.01,) * 9,
        (0.01, 0.01, 0.03, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01),
        (0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005, 0.01),
        (0.01,) * 9,
        "with 0.01 in all layers the logits of different images hardly differ",
    ),
    "model.biases": Choice(
        (0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
        (0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0),
        (0.0, 0.1, 0.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.0),
        (0.0,) * 9,
    ),
    # --- Its input ---
    "data.rescale": Choice(
        "shorter_side",
        "shorter_side",
        "warp",
        "shorter_side",
        "torchvision's script crops at random sizes in training: not implemented",
    ),
    "data.rescale_size": shared(256),
    "data.crop_size": Choice(224, 224, 227, 224),
    "data.random_crop": shared(True),
    "data.random_flip": shared(True),
    "data.crop_sharing": Choice(
        1, 32, 1, 1, "the code draws one crop and reflection for 32 images"
    ),
    "data.mean": Choice(
        "image",
        "center",
        "image",
        "channel",
        "image: the mean image at the crop's position; center: its center for every crop",
    ),
    "data.channel_mean": Choice(
        (), (), (), (123.675, 116.28, 103.53), "0.485, 0.456, 0.406 of 255"
    ),
    "data.channel_scale": Choice(
        (1.0, 1.0, 1.0),
        (1.0, 1.0, 1.0),
        (1.0, 1.0, 1.0),
        (58.395, 57.12, 57.375),
        "0.229, 0.224, 0.225 of 255",
    ),
    "data.channel_order": Choice("rgb", "rgb", "bgr", "rgb"),
    "data.lighting_std": Choice(0.1, 0.1, 0.0, 0.0),
    "data.lighting_scale": Choice(
        "eigenvalue",
        "standard_deviation",
        "standard_deviation",
        "standard_deviation",
        "eigenvalue: of intensities 0 to 1; of 0 to 255 it would shift by 1,483 gray levels",
    ),
    "data.lighting_shrink": Choice(
        False, True, False, False, "the code divides shifted images by 1.1"
    ),
    "data.lighting_off_epoch": Choice(0.0, 67.0, 0.0, 0.0, "0: never"),
    "data.eval_crops": Choice("ten", "ten", "center", "center"),
    # --- Its training ---
    "optimizer.learning_rate": shared(0.01),
    "optimizer.schedule": shared(
        "steps",
        "in 2012 by hand when the validation error stalled, as plateau does; steps: as logged",
    ),
    "optimizer.drop_epochs": Choice(
        (23.0, 51.0, 78.0),
        (25.0, 51.0, 79.0),
        (20.0, 40.0, 60.0, 80.0),
        (30.0, 60.0),
        "by hand in 2012; the paper says three times",
    ),
    "optimizer.plateau_epochs": shared(
        10.0, "the paper gives no number; each rate was kept for 12 to 28 epochs"
    ),
    "optimizer.plateau_drops": shared(3, "'reduced three times prior to termination'"),
    "optimizer.drop_factor": shared(0.1),
    "optimizer.bias_lr_multiplier": Choice(1.0, 2.0, 2.0, 1.0),
    "optimizer.bias_drops": Choice(
        True, False, True, True, "the biases of the code keep 0.02 to the end"
    ),
    "optimizer.conv1_drop_epochs": Choice((), (67.0,), (), (), "1e-4 to 1e-5"),
    "optimizer.conv1_stop_epoch": Choice(0.0, 72.0, 0.0, 0.0, "0: never"),
    "optimizer.momentum": shared(0.9),
    "optimizer.lr_inside_momentum": Choice(
        True,
        True,
        True,
        False,
        "PyTorch multiplies the velocity by the learning rate instead",
    ),
    "optimizer.weight_decay": Choice(0.0005, 0.0005, 0.0005, 0.0001),
    "optimizer.bias_decay": Choice(False, False, False, True, "the paper does not say"),
    "training.batch_size": Choice(128, 128, 256, 256, "torchvision: 8 GPUs of 32"),
    "training.num_epochs": Choice(90.0, 91.0, 90.0, 90.0),
}
