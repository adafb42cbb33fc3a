"""Configurations: complete, checked, and multiplied out into trials.

A config file names one question. It takes `base(dataset)`, sets what its experiment
needs, and gives `arms` (what is compared, as dotted overrides), `tuned` (the values
tried for each arm on its own) and `seeds`; `trials()` multiplies them out. A recipe's
choices are the defaults; `finish()` puts those of another recipe in their place.
"""

import dataclasses
import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, FieldReference

from alexnet_jax import checks, tuning
from alexnet_jax import recipe as recipes
from alexnet_jax.errors import UserError
from alexnet_jax.fields import FIELDS, FOUR_LAYER
from alexnet_jax.recipe import CHOICES

# By name: what differs from the defaults of the fields.
NETWORKS: dict[str, dict[str, Any]] = {"alexnet": {}, "four_layer": FOUR_LAYER}


def base(dataset: str = "digits", network: str = "alexnet") -> ConfigDict:
    """Returns the complete, locked configuration of `network` on `dataset`.

    Args:
      dataset: "digits", a TFDS name bare or as "tfds=NAME", or "folder=PATH".
      network: "alexnet" (with the choices of recipe source2012; set `config.recipe` for
        another's) or "four_layer" (Figure 1's).

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
    if network not in NETWORKS:
        raise UserError(f"Unknown network '{network}': {' or '.join(NETWORKS)}.")
    for name, field in FIELDS.items():
        value = NETWORKS[network].get(name, field.default)
        set_field(config, name, Default(value) if name in CHOICES else value)
    config.data.dataset = checks.dataset(dataset)
    return config.lock()


# AlexNet on data that are too small for it. 64 pixels are the fewest that leave every
# layer's windows inside its input, with overlapping pooling and without; a fraction of
# the width is enough and fast; few images want small batches, and few classes one view.
_NARROW: dict[str, Any] = {
    "data.rescale_size": 72,
    "data.crop_size": 64,
    "data.views": "center",
    "training.warn_after_steps": 200,
}
SMALL: dict[str, dict[str, Any]] = {
    "digits": _NARROW
    | {
        "data.random_flip": False,  # a mirrored digit is another sign
        "model.width": 0.125,
        "training.batch_size": 32,
        # Four crops and reflections a batch, as in the batches of 128 of 2012: shared by 32,
        # a batch would have a single one.
        "data.crop_sharing": 8,
        "training.num_epochs": 20.0,
        "training.record_every_epochs": 0.5,
        "optimizer.drop_epochs": (15.0,),
    },
    "fashion_mnist": _NARROW
    | {
        "model.width": 0.125,
        "training.num_epochs": 4.0,
        "training.record_every_epochs": 0.1,
        "optimizer.drop_epochs": (3.0,),
    },
    "cifar10": _NARROW
    | {
        "model.width": 0.25,
        "training.num_epochs": 60.0,
        "training.record_every_epochs": 0.2,
        "optimizer.drop_epochs": (40.0, 50.0),
    },
}


# Of `SMALL`, what goes with one recipe only: the others share no crops.
_OF_DEFAULT_RECIPE = ("data.crop_sharing",)


def narrow(config: ConfigDict) -> ConfigDict:
    """`config` with AlexNet cut to its data, where these are of `SMALL`; else as it is."""
    for name, value in SMALL.get(short_name(config.data.dataset), {}).items():
        set_field(config, name, value)
        held = _reference(config, name)
        if isinstance(held, Default):
            held.narrowed = True
    return config


def _reference(config: ConfigDict, name: str) -> FieldReference:
    section, _, field = name.partition(".")
    return config[section].get_ref(field)


def short_name(dataset: str) -> str:
    """What `dataset` is called, however it is written: "cifar10" of "tfds=cifar10:3.0.2".

    A folder's is "folder=PATH", whatever it holds.
    """
    if dataset.startswith("folder="):
        return dataset
    return re.split("[:/]", dataset.removeprefix("tfds="))[0]


class Default(FieldReference):
    """A field that still has its recipe's value, until something is assigned to it.

    Then it holds whatever the recipe: also if what was assigned is the same. `narrowed`
    says that `narrow` did that, and nothing since.
    """

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self.assigned = self.narrowed = False

    def set(self, value: Any, type_safe: bool = True) -> None:
        super().set(value, type_safe)
        self.assigned, self.narrowed = True, False


def assigned_fields(config: ConfigDict) -> set[str]:
    """The recipe's choices that a config file or the command line has assigned.

    A copy with its references resolved knows no more which: those that differ from what
    `base` gave.
    """
    given = {name: FIELDS[name].default for name in CHOICES}
    given |= NETWORKS.get(config.model.name, {})
    found = set()
    for name in CHOICES:
        value = _reference(config, name)
        known = isinstance(value, Default)
        if value.assigned if known else value.get() != given[name]:
            found.add(name)
    return found


def is_complete(config: Any) -> bool:
    """Whether `config` has every field, as `base` makes them."""
    if not isinstance(config, ConfigDict):
        return False
    names = {*flatten(config), "arms", "tuned", "claim"}
    return set(FIELDS) <= names and {"arms", "tuned", "claim"} <= set(config)


def get_field(config: Mapping[str, Any] | ConfigDict, name: str) -> Any:
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
    """Those that are trained, in the order in which they are run.

    An arm that differs from one before it in `EVALUATED` fields only is none of them: it
    is read from that one's records. Takes a config, or that of an `experiment.json`.
    """
    return [t for t in all_trials(config) if trained_as(config, t.arm) == t.arm]


def all_trials(config: Mapping[str, Any] | ConfigDict) -> list[Trial]:
    """Arms x tuned values x seeds.

    Seeds come last, so that an experiment cut short has whole pairs missing, not arms.
    """
    grid = tuning.settings(config["tuned"])
    return [
        Trial(arm, values, seed)
        for arm in config["arms"]
        for values in grid
        for seed in range(max(1, config["seeds"] // max(1, networks_of(config, arm))))
    ]


# Read by the evaluation alone: arms that differ in nothing else share their training.
EVALUATED = ("data.views", "training.ensemble")


def trained_as(config: Mapping[str, Any] | ConfigDict, arm: str) -> str:
    """The first arm whose single networks are trained as those of `arm`: often itself."""
    arms = config["arms"]
    names = {name for chosen in arms.values() for name in chosen} - set(EVALUATED)

    def trained(one: str) -> list[Any]:
        return [arms[one].get(name, get_field(config, name)) for name in sorted(names)]

    alike = (other for other in arms if trained(other) == trained(arm))
    return next((one for one in alike if networks_of(config, one) == 1), arm)


def _of_arm(config: Mapping[str, Any] | ConfigDict, arm: str, name: str) -> Any:
    if name in config["arms"][arm]:
        return config["arms"][arm][name]
    try:
        return get_field(config, name)
    except KeyError:  # records of a version that did not have it
        return FIELDS[name].default


def views_of(config: Mapping[str, Any] | ConfigDict, arm: str) -> str:
    """The views by which an arm is evaluated."""
    return _of_arm(config, arm, "data.views")


def networks_of(config: Mapping[str, Any] | ConfigDict, arm: str) -> int:
    """How many networks an arm averages; 1: it averages none."""
    return _of_arm(config, arm, "training.ensemble")


def members(config: Mapping[str, Any] | ConfigDict, ensemble: Trial) -> list[Trial]:
    """The trials whose networks an ensemble averages; number n has the n-th seeds."""
    count = networks_of(config, ensemble.arm)
    arm = trained_as(config, ensemble.arm)
    first = ensemble.seed * count
    return [Trial(arm, ensemble.tuned, seed) for seed in range(first, first + count)]


def views_beside(config: Mapping[str, Any] | ConfigDict, arm: str) -> tuple[str, ...]:
    """By which else the networks of `arm` are evaluated, for arms trained as it is."""
    same = [
        views_of(config, other)
        for other in config["arms"]
        if trained_as(config, other) == arm and networks_of(config, other) == 1
    ]
    return tuple(v for v in dict.fromkeys(same) if v != views_of(config, arm))


def trial_config(config: ConfigDict, trial: Trial) -> ConfigDict:
    """The configuration of one trial: the base, its arm's overrides, its tuned values."""
    result = config.copy_and_resolve_references()
    for name, value in (config.arms[trial.arm] | trial.tuned).items():
        set_field(result, name, value)
    return result.lock()


# Of the section optimizer, what a step is compiled for; all else are numbers given to it.
COMPILED = ("optimizer.rate_in_velocity", "optimizer.bias_decay")

# Trials of one population at most, which takes the memory of all of them. On a CPU a step
# has convolutions of their own for all, and takes as much longer to compile.
MOST_TOGETHER = 32
MOST_ON_CPU = 4


def populations(
    config: ConfigDict, of_trials: list[Trial], most: int
) -> list[list[Trial]]:
    """The trials in groups of `most` that one step can train, in their order.

    Those of a group differ in their seeds and in numbers of the section optimizer only.
    """
    groups: dict[tuple[Any, ...], list[list[Trial]]] = {}
    for trial in of_trials:
        own = trial_config(config, trial)
        alike = (
            *(
                get_field(own, name)
                for name in FIELDS
                if not name.startswith("optimizer.") or name in COMPILED
            ),
            views_beside(config, trial.arm),
        )
        found = groups.setdefault(alike, [[]])
        if len(found[-1]) == most:
            found.append([])
        found[-1].append(trial)
    return [group for found in groups.values() for group in found]


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
    assigned = assigned_fields(config) | set(overrides)
    narrowed = _narrowed(config) - set(overrides)
    config = config.copy_and_resolve_references()
    if not config.arms:
        config.arms = {config.experiment: {}}
    checks.folder_name("config.experiment", config.experiment)
    for entry, tried in config.tuned.items():
        checks.tuned(entry, tried)
    tuned = tuning.values_of(config.tuned)
    if len(tuned) < sum(len(entry.split(",")) for entry in config.tuned):
        raise UserError(f"config.tuned sets a field twice: {', '.join(config.tuned)}.")
    for arm, arm_overrides in config.arms.items():
        checks.arm(arm, arm_overrides, tuned)
    for name in overrides:
        if any(name in arm for arm in config.arms.values()):
            raise UserError(_ablated(config, name))
        if name in tuned:
            config.tuned = tuning.pinned(config.tuned, name, get_field(config, name))
    for arm in config.arms:
        checks.ensemble(
            arm,
            networks_of(config, arm),
            trained=trained_as(config, arm) != arm,
            config=config,
        )
    set_in_arms = {arm: tuple(chosen) for arm, chosen in config.arms.items()}
    with_default = {
        name: get_field(config, name) for name in narrowed & set(_OF_DEFAULT_RECIPE)
    }
    _take_recipes(config, (assigned | set(tuned)) - set(with_default), with_default)

    of_arms = {arm: _with(config, chosen) for arm, chosen in config.arms.items()}
    for one, other in itertools.combinations(of_arms, 2):
        if of_arms[one] == of_arms[other]:
            raise UserError(
                f"Arms '{one}' and '{other}' are equal: nothing to compare."
            )
        if one.lower() == other.lower():
            raise UserError(
                f"Arms '{one}' and '{other}' differ in case only: some disks would give "
                "both one folder. Rename one."
            )
    for trial in all_trials({**config, "seeds": 1}):
        own = config.arms[trial.arm] | trial.tuned
        try:
            checks.values(_with(config, own))
        except UserError as error:
            if any(f"config.{name}" in str(error) for name in own):
                where = " ".join(filter(None, (f"Arm '{trial.arm}'", trial.tuned_name)))
                raise UserError(f"{where}: {error}") from error
            raise
    for arm, names in set_in_arms.items():
        for name in names:
            checks.has_effect(f"Arm '{arm}': {name}", name, [of_arms[arm]])
    checks.learn_apart({f"arm '{arm}'": values for arm, values in of_arms.items()})
    for arm in config.arms.values():
        checks.learn_apart(
            {
                f"tuned {one}": _with(config, arm | one)
                for one in tuning.settings(config.tuned)
            }
        )
    # What `narrow` has set is no mistake of a file that then does without it.
    for name in sorted((assigned - narrowed) | set(tuned)):
        values: list[Mapping[str, Any]] = list(of_arms.values())
        if name not in overrides and name not in tuned:
            # What a file says of its schedule, say, is no mistake where the command line
            # takes another: switches given there do not count.
            values = [_without(overrides, one) for one in values]
        value = get_field(config, name)
        checks.has_effect(f"config.{name}={value}", name, values)
    return config.lock()


def _narrowed(config: ConfigDict) -> set[str]:
    """The recipe's choices that `narrow` has set, and nothing since."""
    held = {name: _reference(config, name) for name in CHOICES}
    return {
        n for n, value in held.items() if isinstance(value, Default) and value.narrowed
    }


def _take_recipes(
    config: ConfigDict, kept: set[str], with_default: Mapping[str, Any]
) -> None:
    """Puts the choices of the recipes named in place of the default recipe's.

    But for the fields in `kept`, which somebody has assigned. An arm that names a recipe
    gets its other choices as overrides. The default recipe's own are those of
    `with_default`, where it holds any.
    """

    def of(recipe: str, name: str) -> Any:
        default = recipe == recipes.DEFAULT and name in with_default
        return with_default[name] if default else CHOICES[name].of(recipe)

    checks.recipe(config.recipe, config.model.name)
    for chosen in config.arms.values():
        checks.recipe(
            chosen.get("recipe", config.recipe),
            chosen.get("model.name", config.model.name),
        )
    if config.model.name == "four_layer":
        return
    taken = [name for name in CHOICES if name not in kept]
    for name in taken:
        set_field(config, name, of(config.recipe, name))
    config.arms = {
        arm: {
            name: of(chosen["recipe"], name)
            for name in taken
            if "recipe" in chosen
            and of(chosen["recipe"], name) != get_field(config, name)
        }
        | dict(chosen)
        for arm, chosen in config.arms.items()
    }


def run_folder(config: ConfigDict, workdir: str) -> Path:
    """The absolute path of `workdir`; if empty, of runs/<experiment>-<dataset>."""
    folder = os.path.expanduser(workdir) if workdir else ""
    default = f"runs/{config.experiment}-{_dataset_name(config)}"
    return Path(folder or default).absolute()


def prepared_folder(config: ConfigDict) -> Path | None:
    """The absolute path of a trial's prepared images; None if originals are wanted.

    By default prepared/<dataset>-<size>, with "-warp" behind it if they are warped.
    """
    given = config.data.prepared_dir
    if given == "none":
        return None
    warp = "" if config.data.rescale == "shorter_side" else f"-{config.data.rescale}"
    name = f"{_dataset_name(config)}-{config.data.rescale_size}{warp}"
    return Path(os.path.expanduser(given) or f"prepared/{name}").absolute()


def _dataset_name(config: ConfigDict) -> str:
    """As a part of a path: a folder's own name, or cifar10-3.0.2 for cifar10:3.0.2."""
    kind, equals, name = config.data.dataset.partition("=")
    if kind == "folder":
        return Path(name).absolute().name
    return re.sub("[/:]", "-", name if equals else kind)


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


def _with(config: ConfigDict, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all fields, by dotted name, with `overrides` in their place."""
    return {name: overrides.get(name, get_field(config, name)) for name in FIELDS}


def _without(overrides: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` less those overridden, but for the recipe, which is no switch."""
    return {n: v for n, v in values.items() if n not in overrides or n == "recipe"}


def departures(config: ConfigDict) -> dict[str, dict[str, Any]]:
    """Each arm's recipe, and the choices in which it departs from it."""
    found = {}
    for arm, overrides in config.arms.items():
        values = _with(config, overrides)
        departing = recipes.departures(values)
        found[arm] = {"recipe": values["recipe"], "departures": departing}
    return found
