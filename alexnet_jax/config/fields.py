"""Every field of a configuration, once: default, meaning, unit, section of the paper.

Those of a section are in the file named after it. A field whose default is `BY_RECIPE` is
a recipe's choice: its default is that of the recipe source2012, from `recipes.py`. "s. 3.5"
is section 3.5 of the paper. Colors are gray levels, 0 to 255; errors and shares are
fractions.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from alexnet_jax.config.data_fields import DATA_FIELDS, DATA_SWITCHES
from alexnet_jax.config.field_type import Field, Switches
from alexnet_jax.config.model_fields import MODEL_FIELDS, MODEL_SWITCHES
from alexnet_jax.config.optimizer_fields import OPTIMIZER_FIELDS, OPTIMIZER_SWITCHES
from alexnet_jax.config.recipes import CHOICES, DEFAULT, NO_RECIPE, Value
from alexnet_jax.config.training_fields import TRAINING_FIELDS

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
    **MODEL_FIELDS,
    **DATA_FIELDS,
    **OPTIMIZER_FIELDS,
    **TRAINING_FIELDS,
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
        also=("num_seeds",),
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

# In which fields have no effect. The network comes first: it is the reason to give.
SWITCHES: Switches = (
    ({"model.name": "four_layer"}, ("preset",)),
    *MODEL_SWITCHES,
    *DATA_SWITCHES,
    *OPTIMIZER_SWITCHES,
)

# Values that all recipes share and no row of `recipes.py` lists.
IN_ALL_RECIPES: dict[str, Value] = {"model.width": 1.0, "model.dtype": "float32"}

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
    "optimizer.warmup_epochs",
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


def by_microbatch(values: Mapping[str, Any]) -> set[str]:
    """The operational field on which a network depends all the same, if it does.

    Batch normalization normalizes each microbatch by itself.
    """
    by_itself = values["model.normalization"] == "batch"
    return {"training.gradient_accumulation"} if by_itself else set()


def without_effect(values: Mapping[str, Any]) -> dict[str, str]:
    """Returns the fields of `values` that have no effect, each with the reason."""
    found: dict[str, str] = {}
    for switches, fields in SWITCHES:
        if all(values.get(switch) == value for switch, value in switches.items()):
            reason = " and ".join(f"{name}={values[name]}" for name in switches)
            found |= {field: reason for field in fields if field not in found}
    return found


def departures(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the choices of `values`, by dotted name, that differ from their recipe's.

    So are values other than those that all recipes share, and what came later.
    """
    recipe = values["recipe"]
    if recipe == NO_RECIPE:
        return {}
    of_recipe = {name: choice.of(recipe) for name, choice in CHOICES.items()}
    later = {name: field.default for name, field in FIELDS.items() if field.later}
    return {
        name: values[name]
        for name, chosen in (IN_ALL_RECIPES | later | of_recipe).items()
        if values[name] != chosen
    }
