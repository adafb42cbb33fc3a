"""A configuration becomes a plan: layers applied, checked, and multiplied out into trials.

Each layer overrides the ones before it: default < recipe < preset < file < network < arm <
tuned < command line; "network" is a trained one that an arm starts from. A field that arms
set is refused on the command line. The plan knows which layer set each value.
"""

import itertools
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.config import search, validate
from alexnet_jax.config.arm_values import networks_in, with_given
from alexnet_jax.config.fields import FIELDS, default_of
from alexnet_jax.config.layered import flatten, get_field, layer_of, plain
from alexnet_jax.config.network_form import saved_form
from alexnet_jax.config.presets import (
    DEFAULT_RECIPE_ONLY,
    NETWORKS,
    starting_values,
    with_preset,
)
from alexnet_jax.config.recipes import CHOICES, DEFAULT, NO_RECIPE
from alexnet_jax.config.trials import ExperimentPlan
from alexnet_jax.errors import UserError

# The keys that make a claim one of the paper.
OF_THE_PAPER = ("section", "text", "paper", "dataset", "also")

_WITHOUT_TUNED = (
    "config.tuning_seeds={} has no effect: there are no tuned values to choose from."
)
_WITHOUT_STAGE = (
    "config.tuning_epochs={} has no effect: there is no tuning stage. Set "
    "config.tuning_seeds to the number of its seeds, or leave tuning_epochs out."
)

# By dotted name of the field: its value, and the layer that set it.
Values = dict[str, Any]
Layers = dict[str, str]


def is_complete(config: Any) -> bool:
    """Whether `config` is a ConfigDict with every field, arms, tuned values and claim."""
    if not isinstance(config, ConfigDict):
        return False
    try:
        for name in (*FIELDS, "arms", "tuned", "claim"):
            get_field(config, name)
    except (KeyError, TypeError):
        return False
    return True


def resolve(config: ConfigDict, overrides: Mapping[str, Any]) -> ExperimentPlan:
    """Returns the plan of a configuration.

    Args:
      config: as a config file returned it, with the overrides assigned.
      overrides: those of the command line, by dotted name. A tuned field that is
        overridden has that value alone, in place of the values to try.

    Raises:
      UserError: naming the first field that is wrong, and the values that it accepts.
    """
    values = {name: plain(get_field(config, name)) for name in FIELDS}
    layers = _layers(config, values) | dict.fromkeys(overrides, "command line")
    if _names_preset(config, values, overrides):
        values, layers = with_preset(values, layers)
    validate.folder_name("config.experiment", values["experiment"])
    tuned = _checked_tuned(plain(config["tuned"]))
    arms = plain(config["arms"]) or {values["experiment"]: {}}
    networks = networks_in(arms)
    arms, given = with_given(arms, values, overrides)
    for name in networks:
        values, layers = _with_form_of(values[name], values, layers, overrides)
    for arm, changes in arms.items():
        validate.arm(arm, changes, search.values_of(tuned))
    in_arms = {name for changes in arms.values() for name in changes}
    for name in overrides:
        if name in in_arms - {field for _, field in given}:
            raise UserError(_ablated(values, arms, name))
        if name in search.values_of(tuned):
            tuned = search.pinned(tuned, name, values[name])

    named_in_arms = {arm: tuple(changes) for arm, changes in arms.items()}
    values, layers, arms, arm_layers = _with_recipes(
        values, layers, arms, set(search.values_of(tuned))
    )
    for arm, name in given:
        arm_layers[arm][name] = "command line"
    for of_arm in arm_layers.values():
        of_arm |= {
            name: "command line" if name in overrides else "tuned"
            for name in search.values_of(tuned)
        }
    _check_arms(values, arms, tuned)
    _check_stage(values, tuned, overrides)
    plan = ExperimentPlan.build(
        values, arms, tuned, _claim(config, values, arms), layers, arm_layers
    )
    for trial in plan.trials:
        validate.tuned_folder(trial.tuned_name)
    _check_ensembles(plan)
    _check_tuning(plan)
    of_arms = {arm: values | changes for arm, changes in arms.items()}
    for arm, names in named_in_arms.items():
        for name in names:
            validate.has_effect(f"Arm '{arm}': {name}", name, [of_arms[arm]])
    _check_effects(values, of_arms, tuned, layers, overrides)
    _check_training_differs(of_arms, tuned)
    return plan


def _with_form_of(
    network: str, values: Values, layers: Layers, overrides: Mapping[str, Any]
) -> tuple[Values, Layers]:
    """The values and their layers, with the form of a trained network.

    What is as in its recipe counts as the recipe's.
    """
    form = {n: v for n, v in saved_form(network).items() if n not in overrides}
    values = values | form
    usual = {name: default_of(name, values["recipe"]) for name in form}
    return values, layers | {
        name: "network"
        if value != usual[name]
        else "recipe"
        if name in CHOICES
        else "default"
        for name, value in form.items()
    }


def replaced_values(
    config: ConfigDict, overrides: Mapping[str, Any]
) -> dict[str, list[float]]:
    """By tuned field that is overridden, the other values that the file would try."""
    found = {
        name: [value for value in tried if value != overrides[name]]
        for name, tried in search.values_of(config.tuned).items()
        if name in overrides
    }
    return {name: values for name, values in found.items() if values}


def _claim(config: ConfigDict, values: Values, arms: Mapping[str, Values]) -> Any:
    """The claim of a configuration; without one of the paper, a question of its own.

    Such a question compares every other arm with the first one by the top-1 error, unless
    `claim` sets another "metric" or "compare". Its section is empty.
    """
    claim = plain(config["claim"])
    if not isinstance(claim, dict) or claim.keys() & set(OF_THE_PAPER):
        return claim
    first, *others = arms
    asked = {
        "section": "",
        "text": "",
        "metric": "top1_error",
        "compare": tuple((other, first) for other in others),
        "paper": None,
        "dataset": values["data.dataset"],
    }
    return asked | claim


def _layers(config: ConfigDict, values: Values) -> dict[str, str]:
    """The layer that set each field last.

    A plain ConfigDict, such as a copy in a notebook, does not record it: there the file
    counts as having set the values that differ from those of `presets.base`.
    """
    network = NETWORKS.get(values["model.name"], {})
    below = starting_values(values["model.name"])

    def assumed(name: str) -> str:
        if values[name] != network.get(name, below[name]):
            return "file"
        if name in network:
            return "preset"
        return "recipe" if name in CHOICES else "default"

    return {name: layer_of(config, name) or assumed(name) for name in FIELDS}


def _names_preset(
    config: ConfigDict, values: Values, overrides: Mapping[str, Any]
) -> bool:
    """Whether the command line or the file itself names a preset of AlexNet.

    A plain ConfigDict does not record it: there the preset's fields are the file's.
    """
    named = "preset" in overrides or layer_of(config, "preset") == "file"
    return named and values["model.name"] != "four_layer"


def _checked_tuned(tuned: Any) -> dict[str, tuple]:
    """Returns `config.tuned` once its form, fields and values are checked."""
    if not isinstance(tuned, dict):
        raise UserError(f"config.tuned is {tuned!r}: give {{field: (value, value)}}.")
    for entry, tried in tuned.items():
        validate.tuned(entry, tried)
    if len(search.values_of(tuned)) < sum(len(entry.split(",")) for entry in tuned):
        raise UserError(f"config.tuned sets a field twice: {', '.join(tuned)}.")
    return tuned


def _ablated(values: Values, arms: Mapping[str, Values], name: str) -> str:
    """Returns the message that refuses to override a field in which the arms differ."""
    own = ", ".join(
        f"{arm}: {changes[name]}" for arm, changes in arms.items() if name in changes
    )
    return (
        f"--config.{name} cannot be overridden: the arms of '{values['experiment']}' differ "
        f"in it, and some have a value of their own ({own}). Remove it, or change it in the "
        "config file; to train a single network, use configs/alexnet.py."
    )


def _with_recipes(
    values: Values, layers: Layers, arms: Mapping[str, Values], tuned: set[str]
) -> tuple[Values, Layers, dict[str, Values], dict[str, Layers]]:
    """Puts the choices of the recipes that are named in place of the default recipe's.

    Fields that a higher layer has set, and tuned fields, stay as they are. An arm that names
    a recipe gets that recipe's other choices as changes of its own.

    Returns:
      values, layers: of all fields, below the arms.
      arms, arm_layers: each arm's changes, and the layer of each.
    """
    by_arm = {arm: dict.fromkeys(changes, "arm") for arm, changes in arms.items()}
    own = {
        name: values[name]
        for name in DEFAULT_RECIPE_ONLY
        if layers[name] == "preset" and name not in tuned
    }
    taken = [
        name
        for name in CHOICES
        if (layers[name] == "recipe" or name in own) and name not in tuned
    ]

    def choice(recipe: str, name: str) -> Any:
        if recipe == NO_RECIPE:
            return values[name]
        if recipe == DEFAULT and name in own:
            return own[name]
        return CHOICES[name].of(recipe)

    validate.recipe(values["recipe"], values["model.name"])
    for changes in arms.values():
        of_arm = values | changes
        validate.recipe(of_arm["recipe"], of_arm["model.name"])
    if values["model.name"] == "four_layer":
        return values, layers, dict(arms), by_arm
    if values["recipe"] != DEFAULT:
        layers = layers | dict.fromkeys(own, "recipe")
    values = values | {name: choice(values["recipe"], name) for name in taken}
    expanded = {}
    for arm, changes in arms.items():
        recipe = (values | changes)["recipe"]
        of_recipe = {name: choice(recipe, name) for name in taken}
        departing = {n: v for n, v in of_recipe.items() if v != values[n]}
        expanded[arm] = departing | changes
        preset = own if recipe == DEFAULT else {}
        by_arm[arm] = {
            name: "preset" if name in preset else "recipe" for name in departing
        } | by_arm[arm]
    return values, layers, expanded, by_arm


def _check_arms(
    values: Values, arms: Mapping[str, Values], tuned: Mapping[str, tuple]
) -> None:
    """Checks every arm at every tuned setting, then arms against each other."""
    for arm, changes in arms.items():
        for setting in search.settings(tuned):
            own = changes | setting
            try:
                validate.values(values | own)
            except UserError as error:
                if not any(f"config.{name}" in str(error) for name in own):
                    raise
                at = ", ".join(f"{name}={value}" for name, value in setting.items())
                where = " ".join(filter(None, (f"Arm '{arm}'", at)))
                raise UserError(f"{where}: {error}") from error
    for one, other in itertools.combinations(arms, 2):
        if values | arms[one] == values | arms[other]:
            raise UserError(
                f"Arms '{one}' and '{other}' are equal: there is nothing to compare."
            )
        if one.lower() == other.lower():
            raise UserError(
                f"Arms '{one}' and '{other}' differ only in case, and would share a "
                "folder on some disks. Rename one."
            )


def _check_ensembles(plan: ExperimentPlan) -> None:
    trained_as = {trial.arm: trial.trained_as for trial in plan.all_trials}
    for arm, changes in plan.arms.items():
        validate.ensemble(
            arm,
            plan.networks(arm),
            trained=trained_as[arm] != arm,
            given={**plan.values, **changes},
        )


def _check_stage(
    values: Values, tuned: Mapping[str, tuple], overrides: Mapping[str, Any]
) -> None:
    """Refuses fields of a tuning stage where nothing is tuned."""
    if values["tuning_seeds"] and not tuned:
        raise UserError(_WITHOUT_TUNED.format(values["tuning_seeds"]))
    # --config.tuning_seeds=0 leaves out the stage of a file that says how long it is.
    left_out = "tuning_seeds" in overrides and "tuning_epochs" not in overrides
    if values["tuning_epochs"] and not values["tuning_seeds"] and not left_out:
        raise UserError(_WITHOUT_STAGE.format(values["tuning_epochs"]))
    asked = values["tuning_seeds"] if "tuning_seeds" in overrides else 0
    if asked and len(search.settings(tuned)) == 1:
        raise UserError(_WITHOUT_TUNED.format(asked))


def _check_tuning(plan: ExperimentPlan) -> None:
    """Refuses a tuning stage that is longer than what is measured, or cannot choose."""
    epochs = {one.arm: one.settings.training.num_epochs for one in plan.trials}
    of_arms: dict[str, dict[str, Values]] = {}
    for trial in plan.tuning_trials:
        if trial.settings.training.num_epochs > epochs[trial.arm]:
            raise UserError(
                f"config.tuning_epochs={plan.values['tuning_epochs']} is more than the "
                f"{epochs[trial.arm]:g} epochs of arm '{trial.arm}'. Add "
                "--config.tuning_epochs=0: then a tuning trial has as many."
            )
        validate.update_rule(flatten(trial.settings), "config.tuning_epochs")
        name = f"tuning {trial.arm} {trial.tuned_name}"
        own = of_arms.setdefault(trial.arm, {})
        own[name] = dict(flatten(trial.settings))
    for own in of_arms.values():
        validate.trainings_differ(own)


def _check_training_differs(
    of_arms: Mapping[str, Values], tuned: Mapping[str, tuple]
) -> None:
    """Refuses arms, and tuned settings of an arm, that train the same network."""
    validate.trainings_differ(
        {f"arm '{arm}'": values for arm, values in of_arms.items()}
    )
    for values in of_arms.values():
        validate.trainings_differ(
            {f"tuned {one}": values | one for one in search.settings(tuned)}
        )


def _check_effects(
    values: Values,
    of_arms: Mapping[str, Values],
    tuned: Mapping[str, tuple],
    layers: Mapping[str, str],
    overrides: Mapping[str, Any],
) -> None:
    """Refuses fields that a file or the command line sets, or that are tuned, to no effect."""
    by_file = {name for name in CHOICES if layers[name] == "file"}
    in_tuned = search.values_of(tuned)
    for name in sorted(by_file | set(overrides) | set(in_tuned)):
        settings: list[Values] = list(of_arms.values())
        if name not in overrides and name not in in_tuned:
            # A file's drop_epochs, for example, are not a mistake where the command line
            # selects another schedule: the fields that it overrides do not count.
            settings = [
                {n: v for n, v in one.items() if n not in overrides or n == "recipe"}
                for one in settings
            ]
        validate.has_effect(f"config.{name}={values[name]}", name, settings)
