"""Where a config file starts: a complete configuration, and presets for small data.

A preset is a layer above the recipe's choices and below what a config file assigns.
"""

from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.config.dataset_names import check_dataset, short_name
from alexnet_jax.config.fields import FIELDS, default_of
from alexnet_jax.config.layered import LayeredConfig
from alexnet_jax.config.recipes import CHOICES, DEFAULT, NO_RECIPE, Value
from alexnet_jax.errors import UserError

# The four-layer network of Figure 1 (model/four_layer.py) was trained with "no
# regularization of any kind"; its initial weights are those of the 2011 code. The rest is
# as the paper's text says: recipe "paper".
FOUR_LAYER: dict[str, Value] = {
    "recipe": NO_RECIPE,
    "model.name": "four_layer",
    "model.channels": (32, 32, 64),
    "model.towers": 1,
    "model.normalization": "none",
    "model.dropout_rate": 0.0,
    "model.weight_stds": (0.0001, 0.01, 0.01, 0.01),
    "model.biases": (0.0, 0.0, 0.0, 0.0),
    "data.rescale_size": 32,
    "data.crop_size": 32,
    "data.random_crop": False,
    "data.random_flip": False,
    "data.lighting_std": 0.0,
    "data.eval_crops": "center",
    "optimizer.learning_rate": 0.001,
    "optimizer.drop_epochs": (),
    "optimizer.weight_decay": 0.0,
    "training.warn_below_spread": 0.00001,  # a shallow network learns from less
}

# What a network's preset sets, by the network's name.
NETWORKS: dict[str, dict[str, Any]] = {"alexnet": {}, "four_layer": FOUR_LAYER}

# AlexNet on data that are too small for it. 64 pixels are the fewest that leave every
# layer's windows inside its input, with and without overlapping pooling. A fraction of the
# width is enough, and fast; few images want small batches, and few classes a single crop.
_SMALL_IMAGES: dict[str, Any] = {
    "preset": "small",
    "data.rescale_size": 72,
    "data.crop_size": 64,
    "data.eval_crops": "center",
    "training.warn_after_steps": 200,
}
SMALL_DATA: dict[str, dict[str, Any]] = {
    "digits": _SMALL_IMAGES
    | {
        "data.random_flip": False,  # a reflected digit is another sign
        "model.width": 0.125,
        "training.batch_size": 32,
        # Four crops and reflections per batch, as in the batches of 128 of 2012: shared by
        # 32 images, a batch of 32 would have a single one.
        "data.crop_sharing": 8,
        "training.num_epochs": 20.0,
        "training.log_every_epochs": 0.5,
        "optimizer.drop_epochs": (15.0,),
    },
    "fashion_mnist": _SMALL_IMAGES
    | {
        "model.width": 0.125,
        "training.num_epochs": 4.0,
        "training.log_every_epochs": 0.1,
        "optimizer.drop_epochs": (3.0,),
    },
    "cifar10": _SMALL_IMAGES
    | {
        "model.width": 0.25,
        "training.num_epochs": 60.0,
        "training.log_every_epochs": 0.2,
        "optimizer.drop_epochs": (40.0, 50.0),
    },
}

# The small-data preset of any other dataset: as wide as for CIFAR-10, and batches for few
# images.
SMALL_ANY: dict[str, Any] = _SMALL_IMAGES | {
    "model.width": 0.25,
    "training.batch_size": 32,
    "data.crop_sharing": 8,
    "training.num_epochs": 60.0,
    "training.log_every_epochs": 0.5,
    "optimizer.drop_epochs": (40.0, 50.0),
}

# Fields of a small-data preset that hold for the default recipe only: in the other recipes
# each image has a crop of its own.
DEFAULT_RECIPE_ONLY = ("data.crop_sharing",)


def base(dataset: str = "digits", network: str = "alexnet") -> LayeredConfig:
    """Returns the complete, locked configuration of a network on a dataset.

    Args:
      dataset: "digits", a TFDS name by itself or as "tfds=NAME", "folder=PATH" or
        "npz=FILE".
      network: "alexnet", with the choices of recipe source2012 (set `config.recipe` for
        another's), or "four_layer", Figure 1's.

    Raises:
      UserError: if either is unknown.
    """
    if network not in NETWORKS:
        raise UserError(f"Unknown network '{network}': {' or '.join(NETWORKS)}.")
    config = LayeredConfig(
        {
            "arms": {},
            "tuned": {},
            "claim": {},
            **{
                section: LayeredConfig()
                for section in ("model", "data", "optimizer", "training")
            },
        },
        convert_dict=False,  # the keys of arms and tuned are dotted names
        sort_keys=False,
    )
    for name, value in starting_values(network).items():
        config.set_by("recipe" if name in CHOICES else "default", name, value)
    for name, value in NETWORKS[network].items():
        config.set_by("preset", name, value)
    if check_dataset(dataset) != config.data.dataset:
        config.data.dataset = dataset
    return config.lock()


def starting_values(network: str) -> dict[str, Value]:
    """Returns the default of every field, by dotted name, below a network's preset."""
    recipe = "paper" if network == "four_layer" else DEFAULT
    return {name: default_of(name, recipe) for name in FIELDS}


def small_data(config: ConfigDict) -> ConfigDict:
    """Returns `config` with AlexNet cut down to its dataset, if that is in `SMALL_DATA`.

    Any other configuration is returned unchanged: AlexNet at full size, which
    `config.preset` changes.
    """
    for name, value in SMALL_DATA.get(short_name(config.data.dataset), {}).items():
        config.set_by("preset", name, value)
    return config


def with_preset(
    values: dict[str, Any], layers: dict[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Applies the preset of AlexNet that `values["preset"]` names, to any dataset.

    What the config file or the command line sets stays; what a preset of the config file
    has set is replaced.

    Args:
      values: every field's value, by dotted name.
      layers: the layer that set it (`layered.LAYERS`).

    Returns:
      Both, with the preset's fields.
    """
    values, layers = dict(values), dict(layers)
    for name, layer in layers.items():
        if layer == "preset":
            values[name] = FIELDS[name].default
            layers[name] = "recipe" if name in CHOICES else "default"
    if values["preset"] == "small":
        preset = SMALL_DATA.get(short_name(values["data.dataset"]), SMALL_ANY)
        for name, value in preset.items():
            if layers[name] in ("default", "recipe"):
                values[name], layers[name] = value, "preset"
    return values, layers
