"""Every field of a run, once: its default, its unit, its section of the paper."""

import dataclasses
import math

from alexnet_jax import recipe as recipes
from alexnet_jax.recipe import CHOICES, Value

# What may follow a convolution.
ORDERS = ("activation norm pool", "norm pool activation", "activation pool norm")

# How the learning rate falls: optimizer.rates_at.
SCHEDULES = ("steps", "plateau", "constant", "cosine")


@dataclasses.dataclass(frozen=True)
class Field:
    """One field: its default, its meaning, and what it may be."""

    default: Value
    meaning: str
    choices: tuple[str, ...] = ()
    minimum: float = -math.inf
    maximum: float = math.inf
    above: float = -math.inf  # exclusive minimum


TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    tuple: "numbers with commas, like 1,2",
}

# Default of a field that is a recipe's choice: taken from `recipe.py`.
BY_RECIPE = ""

_FIELDS: dict[str, Field] = {
    "recipe": Field(recipes.DEFAULT, "which AlexNet: docs/recipes.md"),
    # What is trained: the network (sections 3 and 4.2)
    "model.name": Field(
        "alexnet", "network: section 3.5, or Figure 1's", ("alexnet", "four_layer")
    ),
    "model.channels": Field(
        BY_RECIPE,
        "of conv1 to conv6, units of fc6 and fc7, s. 3.5; 0 leaves a layer out",
        minimum=0,
    ),
    "model.width": Field(1.0, "multiplies every layer's channels", above=0, maximum=8),
    "model.towers": Field(
        BY_RECIPE, "columns, one a GPU in 2012, s. 3.2", minimum=1, maximum=2
    ),
    "model.conv1_padding": Field(
        BY_RECIPE, "where conv1's image is padded", ("both", "after", "none")
    ),
    "model.activation": Field(BY_RECIPE, "nonlinearity, s. 3.1", ("relu", "tanh")),
    "model.layer1_order": Field(BY_RECIPE, "what follows conv1, s. 3.5", ORDERS),
    "model.layer2_order": Field(BY_RECIPE, "what follows conv2, s. 3.5", ORDERS),
    "model.normalization": Field(
        BY_RECIPE,
        "in layers 1 and 2, across channels, s. 3.3",
        ("local_response", "none"),
    ),
    "model.norm_depth": Field(BY_RECIPE, "channels summed, n of s. 3.3", minimum=1),
    "model.norm_k": Field(BY_RECIPE, "k of s. 3.3", above=0),
    "model.norm_alpha": Field(BY_RECIPE, "alpha of s. 3.3", minimum=0),
    "model.norm_beta": Field(BY_RECIPE, "beta of s. 3.3", minimum=0),
    "model.norm_across_towers": Field(BY_RECIPE, "sum over the layer, or the tower"),
    "model.map_norm": Field(BY_RECIPE, "second norm in layer 2, within each map"),
    "model.map_norm_size": Field(BY_RECIPE, "pixels of its window's side", minimum=1),
    "model.map_norm_k": Field(BY_RECIPE, "its constant", above=0),
    "model.map_norm_alpha": Field(BY_RECIPE, "multiplies its sum", minimum=0),
    "model.map_norm_beta": Field(BY_RECIPE, "its power", minimum=0),
    "model.pool_window": Field(BY_RECIPE, "pixels, z of s. 3.4", minimum=1),
    "model.pool_stride": Field(BY_RECIPE, "pixels, s of s. 3.4", minimum=1),
    "model.pool_rounding": Field(
        BY_RECIPE, "of the pooled size: may the last window overhang", ("up", "down")
    ),
    "model.pool_ties": Field(
        BY_RECIPE, "which of equal maxima gets the gradient", ("first", "all")
    ),
    "model.dropout_rate": Field(
        BY_RECIPE, "share of units dropped, s. 4.2", minimum=0, maximum=0.99
    ),
    "model.dropout_form": Field(
        BY_RECIPE, "mask as in s. 4.2, or scaled in training", ("mask", "inverted")
    ),
    "model.dropout_place": Field(
        BY_RECIPE, "before or after fc6 and fc7, s. 4.2", ("before", "after")
    ),
    "model.initialization": Field(
        BY_RECIPE, "first weights: normal as in s. 5, or fan_in", ("normal", "fan_in")
    ),
    "model.weight_deviations": Field(
        BY_RECIPE, "of each layer's first weights, conv1 to fc8, s. 5", minimum=0
    ),
    "model.biases": Field(BY_RECIPE, "each layer's first biases, s. 5"),
    "model.dtype": Field(
        "float32", "of the computation; parameters: float32", ("float32", "bfloat16")
    ),
    # What it is trained on (sections 2 and 4.1)
    "data.dataset": Field("digits", "digits, a TFDS name, tfds=NAME or folder=PATH"),
    "data.tfds_dir": Field("", "TFDS data folder; empty: TFDS's own default"),
    "data.prepared_dir": Field(
        "", "of alexnet_jax.prepare; empty: prepared/<dataset>-<size>; none: originals"
    ),
    "data.rescale": Field(
        BY_RECIPE,
        "shorter side and centre, s. 2, or the whole warped to a square",
        ("shorter_side", "warp"),
    ),
    "data.rescale_size": Field(BY_RECIPE, "pixels of the square, s. 2", minimum=1),
    "data.crop_size": Field(BY_RECIPE, "pixels of a crop's side, s. 4.1", minimum=1),
    "data.random_crop": Field(BY_RECIPE, "crop anywhere; off: the centre, s. 4.1"),
    "data.random_flip": Field(BY_RECIPE, "reflect every second image, s. 4.1"),
    "data.crop_sharing": Field(
        BY_RECIPE, "consecutive images of one crop and reflection", minimum=1
    ),
    "data.mean": Field(
        BY_RECIPE, "what is subtracted, s. 2", ("image", "center", "channel")
    ),
    "data.channel_mean": Field(
        BY_RECIPE,
        "grey levels R, G, B; (): of the training set",
        minimum=0,
        maximum=255,
    ),
    "data.channel_scale": Field(
        BY_RECIPE, "grey levels R, G, B are then divided by", above=0
    ),
    "data.channel_order": Field(BY_RECIPE, "of the network's input", ("rgb", "bgr")),
    "data.lighting_deviation": Field(
        BY_RECIPE, "of alpha, the colour shift of s. 4.1; 0: none", minimum=0
    ),
    "data.lighting_scale": Field(
        BY_RECIPE, "what alpha multiplies, s. 4.1", ("eigenvalue", "deviation")
    ),
    "data.lighting_shrink": Field(
        BY_RECIPE, "divide shifted images by 1 + lighting_deviation"
    ),
    "data.lighting_off_epoch": Field(
        BY_RECIPE, "epoch at which the colour shift ends; 0: never", minimum=0
    ),
    "data.views": Field(
        BY_RECIPE, "of a test image, s. 4.1: probabilities averaged", ("ten", "center")
    ),
    # How (section 5)
    "optimizer.learning_rate": Field(BY_RECIPE, "first learning rate, s. 5", above=0),
    "optimizer.schedule": Field(
        BY_RECIPE,
        "when it falls, s. 5: at drop_epochs, at plateaus, never, along a half cosine",
        SCHEDULES,
    ),
    "optimizer.drop_epochs": Field(
        BY_RECIPE, "epochs at which it falls, s. 5", above=0
    ),
    "optimizer.plateau_epochs": Field(
        BY_RECIPE, "epochs without a lower validation error until it falls", above=0
    ),
    "optimizer.plateau_drops": Field(
        BY_RECIPE, "how often it falls at most, s. 5", minimum=1
    ),
    "optimizer.drop_factor": Field(
        BY_RECIPE, "what it is multiplied by then, s. 5", above=0, maximum=1
    ),
    "optimizer.bias_rate": Field(
        BY_RECIPE, "learning rate of the biases over that of the weights", minimum=0
    ),
    "optimizer.bias_drops": Field(BY_RECIPE, "whether that of the biases falls too"),
    "optimizer.conv1_drop_epochs": Field(
        BY_RECIPE, "epochs at which that of conv1's weights falls once more", above=0
    ),
    "optimizer.conv1_stop_epoch": Field(
        BY_RECIPE, "epoch from which conv1 stays as it is; 0: never", minimum=0
    ),
    "optimizer.momentum": Field(BY_RECIPE, "s. 5", minimum=0, maximum=0.9999),
    "optimizer.rate_in_velocity": Field(
        BY_RECIPE, "learning rate inside the velocity, s. 5"
    ),
    "optimizer.weight_decay": Field(BY_RECIPE, "s. 5", minimum=0),
    "optimizer.bias_decay": Field(BY_RECIPE, "whether biases decay too"),
    "training.batch_size": Field(
        BY_RECIPE, "images a step, over all devices, s. 5", minimum=1
    ),
    "training.num_epochs": Field(
        BY_RECIPE, "times through the training set, s. 5", above=0
    ),
    "training.record_every_epochs": Field(
        0.01, "epochs a train record is the mean of", above=0
    ),
    "training.evaluate_every_epochs": Field(1.0, "epochs between evaluations", above=0),
    "training.accumulation": Field(
        1, "parts, one after the other, of a device's share of a batch", minimum=1
    ),
    "training.init_from": Field(
        "", "trial's folder or checkpoint: first weights of all layers but the last"
    ),
    "training.ensemble": Field(
        1, "networks of consecutive seeds whose probabilities are averaged", minimum=1
    ),
    "training.checkpoint_every_epochs": Field(
        1.0, "epochs between checkpoints; 0: only when stopped or asked", minimum=0
    ),
    "training.profile": Field(
        (), "first and last step of a window of jax.profiler, into profile/", minimum=1
    ),
    "training.warn_below_spread": Field(
        0.0003, "of the logits between images at the start: diagnosis.py", minimum=0
    ),
    "training.warn_after_steps": Field(
        2000, "by then the loss is below ln(classes), or a warning is given", minimum=1
    ),
    "training.tensorboard": Field(False, "also write TensorBoard event files"),
    # The experiment
    "population": Field(
        False, "trials that differ in seeds and numbers of optimizer only, in one step"
    ),
    "parallel": Field(
        "auto",
        "spreads a step over devices; auto: pmap, but shard_map in several processes",
        ("auto", "pmap", "shard_map"),
    ),
    "experiment": Field("alexnet", "name: run folder, figure, report"),
    "seeds": Field(
        1, "how many; trials with the same seed are paired", minimum=1, maximum=1000
    ),
}

FIELDS: dict[str, Field] = {
    name: dataclasses.replace(field, default=CHOICES[name].of(recipes.DEFAULT))
    if name in CHOICES
    else field
    for name, field in _FIELDS.items()
}

# The four-layer network of Figure 1 (see model/four_layer.py) was trained with "no
# regularization of any kind"; its initial weights are those of the 2011 code. The rest
# is as the paper's text says.
FOUR_LAYER: dict[str, Value] = {
    name: choice.paper for name, choice in CHOICES.items()
} | {
    "recipe": recipes.NO_RECIPE,
    "model.name": "four_layer",
    "model.channels": (32, 32, 64),
    "model.towers": 1,
    "model.normalization": "none",
    "model.dropout_rate": 0.0,
    "model.weight_deviations": (0.0001, 0.01, 0.01, 0.01),
    "model.biases": (0.0, 0.0, 0.0, 0.0),
    "data.rescale_size": 32,
    "data.crop_size": 32,
    "data.random_crop": False,
    "data.random_flip": False,
    "data.lighting_deviation": 0.0,
    "data.views": "center",
    "optimizer.learning_rate": 0.001,
    "optimizer.drop_epochs": (),
    "optimizer.weight_decay": 0.0,
    "training.warn_below_spread": 0.00001,  # shallow: it learns from less
}

# Fields of the experiment, in which its trials cannot differ.
WHOLE = (
    "experiment",
    "seeds",
    "data.dataset",
    "data.tfds_dir",
    "data.prepared_dir",
    "training.profile",
    "training.tensorboard",
    "parallel",
    "population",
)

# How a run is done, not what is learned: these may change when it goes on.
RUNNING = (
    "data.prepared_dir",
    "training.accumulation",
    "training.checkpoint_every_epochs",
    "training.profile",
    "training.tensorboard",
    "parallel",
    "population",
)

# Values of the tuples that have one for each layer, or channel of colour.
LENGTHS = {
    "alexnet": {"channels": 8, "weight_deviations": 9, "biases": 9},
    "four_layer": {"channels": 3, "weight_deviations": 4, "biases": 4},
}
