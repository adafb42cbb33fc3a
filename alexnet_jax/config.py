"""Every field of a run, once: its default, its unit, its section of the paper.

A config file names one question. It takes `base(dataset)`, sets what its experiment
needs, and gives `arms` (what is compared, as dotted overrides), `tuned` (the values
tried for each arm on its own) and `seeds`; `trials()` multiplies them out.
"""

import dataclasses
import itertools
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.errors import UserError, nearest

Value = bool | int | float | str | tuple


@dataclasses.dataclass(frozen=True)
class Field:
    """One field: AlexNet's value as default, its meaning, and what it may be."""

    default: Value
    meaning: str
    choices: tuple[str, ...] = ()
    minimum: float = -math.inf
    maximum: float = math.inf
    above: float = -math.inf  # exclusive minimum


FIELDS: dict[str, Field] = {
    # What is trained: the network (sections 3 and 4.2)
    "model.name": Field(
        "alexnet", "network: section 3.5, or Figure 1's", ("alexnet", "four_layer")
    ),
    "model.activation": Field("relu", "nonlinearity, s. 3.1", ("relu", "tanh")),
    "model.towers": Field(
        2, "columns, one a GPU in 2012, s. 3.2", minimum=1, maximum=2
    ),
    "model.normalization": Field(
        "local_response", "after layers 1 and 2, s. 3.3", ("local_response", "none")
    ),
    "model.norm_depth": Field(5, "channels summed, n of s. 3.3", minimum=1),
    "model.norm_k": Field(2.0, "k of s. 3.3", above=0),
    "model.norm_alpha": Field(1e-4, "alpha of s. 3.3, multiplies the sum", minimum=0),
    "model.norm_beta": Field(0.75, "beta of s. 3.3", minimum=0),
    "model.pool_window": Field(3, "pixels, z of s. 3.4", minimum=1),
    "model.pool_stride": Field(2, "pixels, s of s. 3.4", minimum=1),
    "model.dropout_rate": Field(
        0.5, "share of units dropped, s. 4.2", minimum=0, maximum=0.99
    ),
    "model.width": Field(1.0, "multiplies every layer's channels", above=0, maximum=8),
    "model.weight_deviations": Field(
        # The text says 0.01 for all: deep layers then hardly tell images apart, and the
        # loss can stay at ln(classes) for good. The released code has this.
        (0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01),
        "standard deviation of each layer's first weights, s. 5",
        minimum=0,
    ),
    "model.biases": Field(
        (0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0), "each layer's first biases, s. 5"
    ),
    # What it is trained on (sections 2 and 4.1)
    "data.dataset": Field("digits", "digits, a TFDS name, tfds=NAME or folder=PATH"),
    "data.tfds_dir": Field("", "TFDS data folder; empty: TFDS's own default"),
    "data.rescale_size": Field(256, "pixels of the shorter side, s. 2", minimum=1),
    "data.crop_size": Field(224, "pixels of a crop's side, s. 4.1", minimum=1),
    "data.random_crop": Field(True, "crop anywhere; off: the centre, s. 4.1"),
    "data.random_flip": Field(True, "reflect every second image, s. 4.1"),
    "data.lighting_deviation": Field(
        0.1, "deviation of the colour shift in principal deviations, s. 4.1", minimum=0
    ),
    # How (section 5)
    "optimizer.learning_rate": Field(0.01, "first learning rate, s. 5", above=0),
    "optimizer.drop_epochs": Field(
        (23.0, 51.0, 78.0), "epochs at which it falls: by hand in 2012", above=0
    ),
    "optimizer.drop_factor": Field(
        0.1, "what it is multiplied by then", above=0, maximum=1
    ),
    "optimizer.momentum": Field(0.9, "s. 5", minimum=0, maximum=0.9999),
    "optimizer.weight_decay": Field(
        0.0005, "of the weights, not the biases, s. 5", minimum=0
    ),
    "training.batch_size": Field(
        128, "images a step, over all devices, s. 5", minimum=1
    ),
    "training.num_epochs": Field(90.0, "times through the training set, s. 5", above=0),
    "training.record_every_epochs": Field(
        0.01, "epochs a train record is the mean of", above=0
    ),
    "training.evaluate_every_epochs": Field(1.0, "epochs between evaluations", above=0),
    "training.tensorboard": Field(False, "also write TensorBoard event files"),
    # The experiment
    "experiment": Field("alexnet", "name: run folder, figure, report"),
    "seeds": Field(
        1, "how many; trials with the same seed are paired", minimum=1, maximum=1000
    ),
}

# The four-layer network of Figure 1 (see model/four_layer.py) was trained with "no
# regularization of any kind"; its initial weights are those of the 2011 code.
FOUR_LAYER = {
    "model.name": "four_layer",
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
    "optimizer.learning_rate": 0.001,
    "optimizer.drop_epochs": (),
    "optimizer.weight_decay": 0.0,
}

# Fields of the experiment, in which its trials cannot differ.
WHOLE = ("experiment", "seeds", "data.dataset", "data.tfds_dir", "training.tensorboard")

NUM_LAYERS = {"alexnet": 8, "four_layer": 4}


def base(dataset: str = "digits", network: str = "alexnet") -> ConfigDict:
    """Returns the complete, locked configuration of `network` on `dataset`.

    Args:
      dataset: "digits", a TFDS name bare or as "tfds=NAME", or "folder=PATH".
      network: "alexnet" (the paper's values) or "four_layer" (Figure 1's).

    Raises:
      UserError: if either is empty or of no known form.
    """
    config = ConfigDict(
        {
            "arms": {},
            "tuned": {},
            "claim": {},
            **{
                section: ConfigDict()
                for section in ("model", "data", "optimizer", "training")
            },
        },
        convert_dict=False,  # arms and tuned have keys with dots
        sort_keys=False,
    )
    for name, field in FIELDS.items():
        set_field(config, name, field.default)
    if network == "four_layer":
        for name, value in FOUR_LAYER.items():
            set_field(config, name, value)
    elif network != "alexnet":
        raise UserError(f"Unknown network '{network}': alexnet or four_layer.")
    config.data.dataset = _checked_dataset(dataset)
    return config.lock()


def _checked_dataset(dataset: str) -> str:
    kind, equals, name = dataset.partition("=")
    if equals and kind not in ("tfds", "folder"):
        raise UserError(
            f"Unknown kind of dataset '{kind}=' in '{dataset}'."
            + nearest(kind, ("tfds", "folder"))
            + " Write digits, a TFDS name, tfds=NAME or folder=PATH behind the colon."
        )
    if not (name if equals else kind):
        raise UserError(
            "No dataset behind the colon: write digits, a TFDS name, tfds=NAME or "
            "folder=PATH, or leave the colon away for digits."
        )
    return dataset


def is_complete(config: Any) -> bool:
    """Whether `config` has every field, as `base` makes them."""
    if not isinstance(config, ConfigDict):
        return False
    names = {*flatten(config), "arms", "tuned", "claim"}
    return set(FIELDS) <= names and {"arms", "tuned", "claim"} <= set(config)


def get_field(config: ConfigDict, name: str) -> Any:
    """The value of a dotted field name."""
    for part in name.split("."):
        config = config[part]
    return config


def set_field(config: ConfigDict, name: str, value: Any) -> None:
    """Sets a dotted field name."""
    *sections, last = name.split(".")
    for section in sections:
        config = config[section]
    config[last] = value


@dataclasses.dataclass(frozen=True)
class Trial:
    """One network trained once: an arm, a choice of tuned values, a seed."""

    arm: str
    tuned: dict[str, Any]
    seed: int

    @property
    def tuned_name(self) -> str:
        """Tuned values as the figures and folders write them: "learning_rate=0.01"."""
        return ",".join(
            f"{name.rpartition('.')[2]}={v!r}" for name, v in self.tuned.items()
        )

    @property
    def folder(self) -> str:
        """Path of the trial's records below the run folder."""
        parts = (self.arm, self.tuned_name, f"seed{self.seed}")
        return "/".join(part for part in parts if part)

    @property
    def name(self) -> str:
        return " ".join(self.folder.split("/"))


def trials(config: Mapping[str, Any] | ConfigDict) -> list[Trial]:
    """Arms x tuned values x seeds, in the order in which they are run.

    Seeds come last, so that an experiment cut short has whole pairs missing, not arms.
    Takes a config, or the one that a run folder's `experiment.json` holds.
    """
    tuned = dict(config["tuned"])
    grid = [
        dict(zip(tuned, values, strict=True))
        for values in itertools.product(*tuned.values())
    ]
    return [
        Trial(arm, values, seed)
        for arm in config["arms"]
        for values in grid
        for seed in range(config["seeds"])
    ]


def trial_config(config: ConfigDict, trial: Trial) -> ConfigDict:
    """The configuration of one trial: the base, its arm's overrides, its tuned values."""
    result = config.copy_and_resolve_references()
    for name, value in (config.arms[trial.arm] | trial.tuned).items():
        set_field(result, name, value)
    return result.lock()


def flatten(values: Mapping[str, Any] | ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one of dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, (Mapping, ConfigDict)):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = list(value) if isinstance(value, tuple) else value
    return flat


def finish(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """Checks a config with its command-line overrides and returns it ready to run.

    A tuned field that is overridden is pinned to that value in place of those tried.

    Raises:
      UserError: naming the first field that is wrong, and what it may be.
    """
    config = config.copy_and_resolve_references()
    if not config.arms:
        config.arms = {config.experiment: {}}
    _check_name("config.experiment", config.experiment)
    for arm, arm_overrides in config.arms.items():
        _check_arm(config, arm, arm_overrides)
    for name in overrides:
        if any(name in arm for arm in config.arms.values()):
            raise UserError(_ablated(config, name))
        if name in config.tuned:
            config.tuned = {**config.tuned, name: (get_field(config, name),)}
    for one, other in itertools.combinations(config.arms, 2):
        if _with(config, config.arms[one]) == _with(config, config.arms[other]):
            raise UserError(
                f"Arms '{one}' and '{other}' are equal: nothing to compare."
            )
    for name, values in config.tuned.items():
        _check_varied("config.tuned", name)
        if type(FIELDS[name].default) not in (int, float):
            raise UserError(f"config.tuned sets '{name}', no number: make it arms.")
        if not isinstance(values, (tuple, list)):
            raise UserError(f"config.tuned['{name}'] takes values in brackets: (1,2).")
        if not values:
            raise UserError(
                f"config.tuned['{name}'] is empty: give at least one value."
            )
        if len(set(values)) < len(values):
            raise UserError(f"config.tuned['{name}'] holds a value twice: {values}.")
    for trial in trials({**config, "seeds": 1}):
        try:
            _check_values(trial_config(config, trial))
        except (TypeError, ValueError) as error:
            raise UserError(f"Trial '{trial.name}': {error}") from error
    return config.lock()


def run_folder(config: ConfigDict, workdir: str) -> Path:
    """The absolute path of `workdir`; if empty, of runs/<experiment>-<dataset>."""
    kind, equals, name = config.data.dataset.partition("=")
    dataset = Path(name if equals else kind).absolute().name
    folder = os.path.expanduser(workdir) if workdir else ""
    return Path(folder or f"runs/{config.experiment}-{dataset}").absolute()


def _ablated(config: ConfigDict, name: str) -> str:
    values = ", ".join(
        f"{arm}: {overrides.get(name, get_field(config, name))}"
        for arm, overrides in config.arms.items()
    )
    return (
        f"--config.{name} cannot be overridden: it is what the arms of "
        f"'{config.experiment}' differ in ({values}), and they would become equal. Leave "
        "it away; to train a single network, take configs/alexnet.py."
    )


def _check_name(what: str, name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_+ -]+", name):
        raise UserError(
            f"{what} '{name}': it becomes a folder; use letters, digits, space and _+- ."
        )


def _check_varied(where: str, name: str) -> None:
    """Raises UserError unless arms or tuned values can differ in the field `name`."""
    if name not in FIELDS:
        raise UserError(f"{where} sets '{name}', no field.{nearest(name, FIELDS)}")
    if name in WHOLE:
        raise UserError(f"{where} sets '{name}', which holds for a whole experiment.")


def _check_arm(config: ConfigDict, arm: str, overrides: Any) -> None:
    """An arm's name becomes a folder; its overrides must exist and change something."""
    _check_name("Arm name", arm)
    if not isinstance(overrides, Mapping):
        raise UserError(f"Arm '{arm}' holds {overrides!r}: give {{field: value}}.")
    for name in overrides:
        _check_varied(f"Arm '{arm}'", name)
        if name in config.tuned:
            raise UserError(f"Arm '{arm}' sets '{name}', which config.tuned sets too.")


def _with(config: ConfigDict, overrides: Mapping[str, Any]) -> dict[str, Any]:
    return {name: overrides.get(name, get_field(config, name)) for name in FIELDS}


def _check_values(config: ConfigDict) -> None:
    """Every field of a trial against its type, choices and range; then the whole."""
    for name, field in FIELDS.items():
        value = get_field(config, name)
        if isinstance(field.default, tuple):
            for element in value:
                if not isinstance(element, (int, float)):
                    raise UserError(f"config.{name} holds '{element}', no number.")
                _check_value(name, field, element)
        else:
            _check_value(name, field, value)
    model, data = config.model, config.data
    _checked_dataset(data.dataset)
    for name in ("weight_deviations", "biases"):
        needed = NUM_LAYERS[model.name]
        if len(model[name]) != needed:
            raise UserError(
                f"config.model.{name} has {len(model[name])} values; the {needed} layers "
                f"of {model.name} need one each."
            )
    if model.name == "four_layer" and model.towers != 1:
        raise UserError("config.model.towers: the four_layer network has one tower.")
    if model.pool_stride > model.pool_window:
        raise UserError(
            f"config.model.pool_stride={model.pool_stride} skips pixels: at most "
            f"config.model.pool_window={model.pool_window}."
        )
    if data.crop_size > data.rescale_size:
        raise UserError(
            f"config.data.crop_size={data.crop_size} is larger than the images it is cut "
            f"from: at most config.data.rescale_size={data.rescale_size}."
        )


def _check_value(name: str, field: Field, value: Any) -> None:
    if field.choices and value not in field.choices:
        raise UserError(
            f"config.{name}='{value}': it is one of {', '.join(field.choices)}."
            + nearest(str(value), field.choices)
        )
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        inside = field.minimum <= value <= field.maximum and value > field.above
        if not inside or not math.isfinite(value):
            raise UserError(f"config.{name}={value}: it must be {_range(field)}.")


def _range(field: Field) -> str:
    parts = ["finite"]
    if field.above > -math.inf:
        parts = [f"above {field.above:g}"]
    if field.minimum > -math.inf:
        parts = [f"at least {field.minimum:g}"]
    if field.maximum < math.inf:
        parts.append(f"at most {field.maximum:g}")
    return " and ".join(parts)
