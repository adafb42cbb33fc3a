"""Every field of a configuration, once: default, meaning, unit, section of the paper.

A field whose default is `BY_RECIPE` is a recipe's choice: its default is that of the recipe
source2012, from `recipes.py`. "s. 3.5" is section 3.5 of the paper. Colors are gray levels,
0 to 255; errors and shares are fractions.
"""

import dataclasses

from alexnet_jax.config.field_type import BY_RECIPE, ORDERS, SCHEDULES, Field
from alexnet_jax.config.recipes import CHOICES, DEFAULT, NO_RECIPE, Value

TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    tuple: "numbers with commas, like 1,2",
}

_FIELDS: dict[str, Field] = {
    "recipe": Field(DEFAULT, "which AlexNet: one of the four in docs/recipes.md"),
    "preset": Field(
        "full",
        "size of AlexNet; small: a fraction of the width on 64x64 pixels, for images that "
        "are small or few",
        ("full", "small"),
    ),
    # What is trained: the network (sections 3 and 4.2)
    "model.name": Field(
        "alexnet",
        "network: AlexNet of s. 3.5, or the four layers of Figure 1",
        ("alexnet", "four_layer"),
    ),
    "model.channels": Field(
        BY_RECIPE,
        "channels of conv1 to conv6, units of fc6 and fc7, s. 3.5; 0 omits a layer",
        minimum=0,
    ),
    "model.width": Field(
        1.0, "multiplies the channels of every layer", above=0, maximum=8
    ),
    "model.towers": Field(
        BY_RECIPE,
        "columns of the network, one per GPU in 2012, s. 3.2",
        minimum=1,
        maximum=2,
    ),
    "model.conv1_padding": Field(
        BY_RECIPE,
        "on which sides the input of conv1 is padded",
        ("both", "after", "none"),
    ),
    # Any name: building the network checks it against model/layers/activation.py.
    "model.activation": Field(BY_RECIPE, "nonlinearity, s. 3.1"),
    "model.layer1_order": Field(BY_RECIPE, "operations after conv1, s. 3.5", ORDERS),
    "model.layer2_order": Field(BY_RECIPE, "operations after conv2, s. 3.5", ORDERS),
    "model.normalization": Field(
        BY_RECIPE,
        "normalization across channels in layers 1 and 2, s. 3.3",
        ("local_response", "none"),
    ),
    "model.norm_depth": Field(BY_RECIPE, "channels in the sum, n of s. 3.3", minimum=1),
    "model.norm_k": Field(BY_RECIPE, "k of s. 3.3", above=0),
    "model.norm_alpha": Field(BY_RECIPE, "alpha of s. 3.3", minimum=0),
    "model.norm_beta": Field(BY_RECIPE, "beta of s. 3.3", minimum=0),
    "model.norm_across_towers": Field(
        BY_RECIPE, "whether the sum crosses from one tower to the other"
    ),
    "model.within_channel_norm": Field(
        BY_RECIPE, "a second normalization in layer 2, within each channel"
    ),
    "model.within_channel_norm_size": Field(
        BY_RECIPE, "side of the window of that normalization, pixels", minimum=1
    ),
    "model.within_channel_norm_k": Field(
        BY_RECIPE, "additive constant of that normalization", above=0
    ),
    "model.within_channel_norm_alpha": Field(
        BY_RECIPE, "factor of the sum of squares of that normalization", minimum=0
    ),
    "model.within_channel_norm_beta": Field(
        BY_RECIPE, "exponent of that normalization", minimum=0
    ),
    "model.pool_window": Field(
        BY_RECIPE, "side of a pooling window, pixels, z of s. 3.4", minimum=1
    ),
    "model.pool_stride": Field(
        BY_RECIPE, "stride of pooling, pixels, s of s. 3.4", minimum=1
    ),
    "model.pool_rounding": Field(
        BY_RECIPE,
        "rounding of the pooled size; up: the last window may overhang",
        ("up", "down"),
    ),
    "model.pool_ties": Field(
        BY_RECIPE,
        "which of several equal maxima receive the gradient",
        ("first", "all"),
    ),
    "model.dropout_rate": Field(
        BY_RECIPE, "fraction of units dropped, s. 4.2", minimum=0, maximum=0.99
    ),
    "model.dropout_form": Field(
        BY_RECIPE,
        "mask: scaled in evaluation, s. 4.2; inverted: scaled in training",
        ("mask", "inverted"),
    ),
    "model.dropout_place": Field(
        BY_RECIPE, "dropout before or after fc6 and fc7, s. 4.2", ("before", "after")
    ),
    "model.initialization": Field(
        BY_RECIPE,
        "distribution of the initial weights: normal as in s. 5, or fan_in",
        ("normal", "fan_in"),
    ),
    "model.weight_stds": Field(
        BY_RECIPE,
        "standard deviation of each layer's initial weights, conv1 to fc8, s. 5",
        minimum=0,
    ),
    "model.biases": Field(BY_RECIPE, "initial biases of each layer, s. 5"),
    "model.dtype": Field(
        "float32",
        "dtype of the computation; parameters are float32",
        ("float32", "bfloat16"),
    ),
    # What it is trained on (sections 2 and 4.1)
    "data.dataset": Field("digits", "digits, a TFDS name, tfds=NAME or folder=PATH"),
    "data.tfds_dir": Field("", "data folder of TFDS; empty: the default of TFDS"),
    "data.prepared_dir": Field(
        "",
        "prepared dataset; empty: prepared/<dataset>-<size>; none: the original images",
    ),
    "data.rescale": Field(
        BY_RECIPE,
        "shorter side and central square, s. 2, or the whole image warped to a square",
        ("shorter_side", "warp"),
    ),
    "data.rescale_size": Field(
        BY_RECIPE, "side of the square, pixels, s. 2", minimum=1
    ),
    "data.crop_size": Field(BY_RECIPE, "side of a crop, pixels, s. 4.1", minimum=1),
    "data.random_crop": Field(
        BY_RECIPE, "crop at random positions, s. 4.1; off: the center"
    ),
    "data.random_flip": Field(BY_RECIPE, "reflect images at random, s. 4.1"),
    "data.crop_sharing": Field(
        BY_RECIPE, "consecutive images that share one crop and reflection", minimum=1
    ),
    "data.mean": Field(
        BY_RECIPE, "which mean is subtracted, s. 2", ("image", "center", "channel")
    ),
    "data.channel_mean": Field(
        BY_RECIPE,
        "mean of R, G, B in gray levels; (): that of the training set",
        minimum=0,
        maximum=255,
    ),
    "data.channel_scale": Field(
        BY_RECIPE,
        "divisors of R, G, B after the mean is subtracted, gray levels",
        above=0,
    ),
    "data.channel_order": Field(
        BY_RECIPE, "order of the channels of the network's input", ("rgb", "bgr")
    ),
    "data.lighting_std": Field(
        BY_RECIPE,
        "standard deviation of alpha, PCA color augmentation of s. 4.1; 0: off",
        minimum=0,
    ),
    "data.lighting_scale": Field(
        BY_RECIPE, "what alpha multiplies, s. 4.1", ("eigenvalue", "standard_deviation")
    ),
    "data.lighting_shrink": Field(
        BY_RECIPE, "whether shifted images are divided by 1 + lighting_std"
    ),
    "data.lighting_off_epoch": Field(
        BY_RECIPE, "epoch at which PCA color augmentation ends; 0: never", minimum=0
    ),
    "data.eval_crops": Field(
        BY_RECIPE,
        "crops of a test image, s. 4.1: probabilities are averaged",
        ("ten", "center"),
    ),
    # How (section 5)
    "optimizer.learning_rate": Field(BY_RECIPE, "initial learning rate, s. 5", above=0),
    "optimizer.schedule": Field(
        BY_RECIPE,
        "when the rate falls, s. 5: at drop_epochs, at plateaus, never, along a cosine",
        SCHEDULES,
    ),
    "optimizer.drop_epochs": Field(
        BY_RECIPE, "epochs at which the rate falls, s. 5", above=0
    ),
    "optimizer.plateau_epochs": Field(
        BY_RECIPE,
        "epochs without a lower validation error until the rate falls",
        above=0,
    ),
    "optimizer.plateau_drops": Field(
        BY_RECIPE, "how often the rate falls at plateaus, s. 5", minimum=1
    ),
    "optimizer.drop_factor": Field(
        BY_RECIPE, "factor of the rate at each fall, s. 5", above=0, maximum=1
    ),
    "optimizer.bias_lr_multiplier": Field(
        BY_RECIPE, "learning rate of biases relative to that of weights", minimum=0
    ),
    "optimizer.bias_drops": Field(
        BY_RECIPE, "whether the learning rate of biases falls too"
    ),
    "optimizer.conv1_drop_epochs": Field(
        BY_RECIPE,
        "epochs at which the rate of conv1's weights falls once more",
        above=0,
    ),
    "optimizer.conv1_stop_epoch": Field(
        BY_RECIPE, "epoch from which conv1 is frozen; 0: never", minimum=0
    ),
    "optimizer.layer_lr_multipliers": Field(
        "",
        "factors of layers' rates: conv1-conv5=0.01,others=0.1,last=1; 0: frozen",
    ),
    "optimizer.frozen_layers": Field(
        0, "first layers that keep their initial weights; 5: conv1 to conv5", minimum=0
    ),
    "optimizer.momentum": Field(BY_RECIPE, "momentum, s. 5", minimum=0, maximum=0.9999),
    "optimizer.lr_inside_momentum": Field(
        BY_RECIPE, "whether the velocity holds the learning rate, s. 5"
    ),
    "optimizer.weight_decay": Field(BY_RECIPE, "weight decay, s. 5", minimum=0),
    "optimizer.bias_decay": Field(
        BY_RECIPE, "whether weight decay applies to biases too"
    ),
    "training.batch_size": Field(
        BY_RECIPE, "images per step, over all devices, s. 5", minimum=1
    ),
    "training.num_epochs": Field(
        BY_RECIPE, "passes over the training set, s. 5", above=0
    ),
    "training.log_every_epochs": Field(
        0.01, "epochs between training records, which are means over them", above=0
    ),
    "training.evaluate_every_epochs": Field(1.0, "epochs between evaluations", above=0),
    "training.evaluate_at_start": Field(
        False, "whether to evaluate before the first step too"
    ),
    "training.stop_when_answered": Field(
        True,
        "whether a trial ends once it has reached the training error that the experiment "
        "asks about",
    ),
    "training.gradient_accumulation": Field(
        1, "microbatches, one after another, of a device's share of a batch", minimum=1
    ),
    "training.init_from": Field(
        "",
        "trial, checkpoint or exported file: initial weights of all but the last layer",
    ),
    "training.ensemble": Field(
        1, "networks, of consecutive seeds, whose probabilities are averaged", minimum=1
    ),
    "training.checkpoint_every_epochs": Field(
        1.0,
        "epochs between checkpoints; 0: only at the end of a stopped run or by SIGUSR1",
        minimum=0,
    ),
    "training.profile": Field(
        (), "first and last step that jax.profiler records, into profile/", minimum=1
    ),
    "training.warn_below_spread": Field(
        0.0003,
        "least spread of initial logits between images: training/diagnosis.py",
        minimum=0,
    ),
    "training.warn_after_steps": Field(
        2000,
        "steps after which a loss that is not below ln(classes) is a warning",
        minimum=1,
    ),
    "training.tensorboard": Field(False, "whether to write TensorBoard files too"),
    # The experiment
    "population": Field(
        False,
        "train trials that differ only in seeds and optimizer numbers in one program",
    ),
    "spread": Field(
        "auto",
        "what devices share out: whole trials, or each batch; auto: trials if a step has "
        "at most 2**20 pixels",
        ("auto", "trials", "batch"),
    ),
    "parallel": Field(
        "auto",
        "how a step is spread over devices; auto: pmap in one process that shares out "
        "batches, else shard_map",
        ("auto", "pmap", "shard_map"),
    ),
    "experiment": Field("alexnet", "name of the run folder, figure and report"),
    "seeds": Field(
        1,
        "number of seeds; trials with the same seed are paired",
        minimum=1,
        maximum=1000,
    ),
    "tuning_seeds": Field(
        0,
        "seeds of a first stage that chooses each arm's tuned values and is not measured; "
        "0: no such stage, every measured seed is trained at every value",
        minimum=0,
        maximum=1000,
    ),
    "tuning_epochs": Field(
        0.0, "epochs of a trial of that stage; 0: as of a measured one", minimum=0
    ),
}

FIELDS: dict[str, Field] = {
    name: dataclasses.replace(field, default=CHOICES[name].of(DEFAULT))
    if name in CHOICES
    else field
    for name, field in _FIELDS.items()
}

# The first seed of the stage that chooses tuned values: those measured are below it.
FIRST_TUNING_SEED = int(FIELDS["seeds"].maximum)

# Fields that hold for a whole experiment: its trials cannot differ in them.
EXPERIMENT_FIELDS = (
    "experiment",
    "preset",
    "seeds",
    "tuning_seeds",
    "tuning_epochs",
    "data.dataset",
    "data.tfds_dir",
    "data.prepared_dir",
    "training.profile",
    "training.stop_when_answered",
    "training.tensorboard",
    "spread",
    "parallel",
    "population",
)

# Fields that say how a run is carried out, not what is learned: they may change when a run
# is continued. A preset is known by the fields that it sets.
OPERATIONAL_FIELDS = (
    "preset",
    "data.prepared_dir",
    "training.evaluate_at_start",
    "training.gradient_accumulation",
    "training.checkpoint_every_epochs",
    "training.profile",
    "training.stop_when_answered",
    "training.tensorboard",
    "spread",
    "parallel",
    "population",
)

# Fields on which a trained network does not depend, except for rounding.
NEUTRAL_FIELDS = (
    "training.evaluate_at_start",
    "training.gradient_accumulation",
    "training.checkpoint_every_epochs",
    "training.log_every_epochs",
    "training.warn_after_steps",
    "training.warn_below_spread",
)

# Fields that only the evaluation reads: arms that differ in nothing else share a training.
EVALUATION_FIELDS = ("data.eval_crops", "training.ensemble")

# Fields that enter a step as traced numbers. A step is compiled for the values of all other
# fields, so trials that differ in them cannot share one.
TRACED_FIELDS = (
    "optimizer.learning_rate",
    "optimizer.schedule",
    "optimizer.drop_epochs",
    "optimizer.plateau_epochs",
    "optimizer.plateau_drops",
    "optimizer.drop_factor",
    "optimizer.bias_lr_multiplier",
    "optimizer.bias_drops",
    "optimizer.conv1_drop_epochs",
    "optimizer.conv1_stop_epoch",
    "optimizer.momentum",
    "optimizer.weight_decay",
)


def default_of(name: str, recipe: str) -> Value:
    """Returns a field's default under a recipe; `NO_RECIPE` stands for the paper's text."""
    if name not in CHOICES:
        return FIELDS[name].default
    return CHOICES[name].of("paper" if recipe == NO_RECIPE else recipe)
