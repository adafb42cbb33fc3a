"""An experiment as an immutable plan: every trial with its settings, resolved once.

`resolve.resolve` makes a plan from a configuration, `ExperimentPlan.of_json` from the
experiment.json of a run folder. Whatever runs or reports an experiment reads the plan, and
hands the values of a trial's `settings` further down.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from immutabledict import immutabledict
from ml_collections import FrozenConfigDict

from alexnet_jax.config import search, sharing
from alexnet_jax.config.dataset_names import path_part
from alexnet_jax.config.fields import (
    FIELDS,
    FIRST_TUNING_SEED,
    OPERATIONAL_FIELDS,
    TRACED_FIELDS,
    departures,
)
from alexnet_jax.config.layered import flatten, frozen, mutable, nest
from alexnet_jax.config.old_names import (
    RENAMED,
    added_choices,
    upgraded,
    with_defaults,
)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One network trained once, or an average of several: an arm, tuned values, a seed.

    Attributes:
      arm: the name of the arm.
      tuned: the values of the tuned fields, by dotted name.
      seed: of the network; of an average of networks, the number of the average.
      settings: every field's value, in sections as in the configuration.
      trained_as: the arm whose training it shares, which may be its own. Arms that differ
        in `EVALUATION_FIELDS` only share one training.
      networks: how many networks it averages; 1 for a single network.
      further_crops: further `data.eval_crops` by which the evaluations of the network
        measure it, for the arms that share its training.
      stops_at: the training error at which it has answered what the experiment asks, and
        ends; None if it goes on to its last epoch.
      for_tuning: whether it serves to choose tuned values only, and is not measured.
      old_names: the names of tuned fields in the folders of a run that an older version
        wrote, by today's name, where they differ.
    """

    arm: str
    tuned: Mapping[str, Any]
    seed: int
    settings: FrozenConfigDict
    trained_as: str
    networks: int = 1
    further_crops: tuple[str, ...] = ()
    stops_at: float | None = None
    for_tuning: bool = False
    old_names: Mapping[str, str] = dataclasses.field(
        default_factory=immutabledict, compare=False
    )

    @property
    def tuned_name(self) -> str:
        """The tuned values as figures and folders write them: "learning_rate=0.01"."""
        return ",".join(
            f"{self.old_names.get(name, name).rpartition('.')[2]}={value!r}"
            for name, value in self.tuned.items()
        )

    @property
    def folder(self) -> str:
        """Path of the trial's own records below the run folder."""
        return self._folder_of(self.arm)

    @property
    def records_folder(self) -> str:
        """Path of the records that measure it: those of the training that it shares.

        An average of networks has records of its own.
        """
        return self._folder_of(self.arm if self.networks > 1 else self.trained_as)

    def _folder_of(self, arm: str) -> str:
        return "/".join(filter(None, (arm, self.tuned_name, f"seed{self.seed}")))

    @functools.cached_property
    def compiled_for(self) -> Mapping[str, Any]:
        """What a step is compiled for: trials in which it is equal can share a program."""
        values = flatten(self.settings) | {"further_crops": self.further_crops}
        return frozen({n: v for n, v in values.items() if n not in TRACED_FIELDS})

    @property
    def name(self) -> str:
        """The trial's name in messages: "ReLU learning_rate=0.01 seed0"."""
        return self.folder.replace("/", " ")


@dataclasses.dataclass(frozen=True)
class ExperimentPlan:
    """What an experiment is: its question and all of its trials.

    Attributes:
      values: every field's value, by dotted name, before arms and tuned values.
      arms: what each arm changes, by dotted name.
      tuned: the values to try, as `search.py` writes them.
      claim: what the paper claims, and which metric measures it.
      layers: the layer of each of `values` (`layered.LAYERS`).
      arm_layers: for each arm the layers of the fields that it, its recipe or `tuned` sets.
      all_trials: arms x tuned values x seeds. Seeds vary fastest, so that an experiment cut
        short lacks whole pairs.
      tuning_trials: those of a first stage that chooses the tuned values, with seeds of
        its own; empty without such a stage. `measured_at` then gives those of `all_trials`
        that will be run.
    """

    values: Mapping[str, Any]
    arms: Mapping[str, Mapping[str, Any]]
    tuned: Mapping[str, tuple]
    claim: Mapping[str, Any]
    layers: Mapping[str, str]
    arm_layers: Mapping[str, Mapping[str, str]]
    all_trials: tuple[Trial, ...]
    tuning_trials: tuple[Trial, ...] = ()

    @staticmethod
    def build(
        values: Mapping[str, Any],
        arms: Mapping[str, Mapping[str, Any]],
        tuned: Mapping[str, tuple],
        claim: Mapping[str, Any],
        layers: Mapping[str, str],
        arm_layers: Mapping[str, Mapping[str, str]],
        old_names: Mapping[str, str] | None = None,
    ) -> "ExperimentPlan":
        """Multiplies out the trials of a configuration whose values are final."""
        settings = {
            (arm, number): _settings({**values, **changes, **setting})
            for arm, changes in arms.items()
            for number, setting in enumerate(search.settings(tuned))
        }
        training = sharing.shared_training(values, arms)
        stops_at = sharing.answered_at(values, claim)
        tried = search.settings(tuned)

        def trial(arm: str, number: int, seed: int) -> Trial:
            return Trial(
                arm,
                frozen(tried[number]),
                seed,
                settings[arm, number],
                trained_as=training[arm],
                networks=sharing.value_in(values, arms[arm], "training.ensemble"),
                further_crops=sharing.further_crops(values, arms, training, arm),
                stops_at=stops_at,
                old_names=frozen(old_names or {}),
            )

        trials = tuple(
            trial(arm, number, seed)
            for arm in arms
            for number in range(len(tried))
            for seed in range(sharing.num_seeds(values, arms[arm]))
        )
        tuning = tuple(
            _for_tuning(trial(arm, number, FIRST_TUNING_SEED + seed), values, claim)
            for arm in arms
            if training[arm] == arm and len(tried) > 1
            for number in search.middle_first(len(tried))
            for seed in range(values["tuning_seeds"])
        )
        return ExperimentPlan(
            frozen(values),
            frozen(arms),
            frozen(tuned),
            frozen(claim),
            frozen(layers),
            frozen(arm_layers),
            trials,
            tuning,
        )

    @staticmethod
    def of_json(held: Mapping[str, Any]) -> "ExperimentPlan":
        """The plan that `experiment.json` holds, also one that an older version wrote.

        Fields that were renamed have their new names, and fields that did not exist their
        defaults, so that a new neutral field locks nobody out of a run.
        """
        # A run reads it again before each trial, and to multiply it out takes 0.1 s.
        parts = ("config", "layers", "arm_layers")
        return _plan_of(json.dumps({key: held[key] for key in parts if key in held}))

    def as_json(self) -> dict[str, Any]:
        """What experiment.json holds of a plan: `of_json` reads it back."""
        changed = {"arms": self.arms, "tuned": self.tuned, "claim": self.claim}
        return mutable(
            {
                "config": changed | nest(self.values),
                "layers": self.layers,
                "arm_layers": self.arm_layers,
            }
        )

    def differences(self, other: "ExperimentPlan") -> dict[str, tuple[Any, Any]]:
        """The values of both plans by dotted name, where experiment.json would differ.

        Fields in `OPERATIONAL_FIELDS` are left out: they change how a run is done and not
        its result. So is the prose of a claim, which a later version may word better. A
        name that one of the plans lacks is "absent" there.
        """
        own, others = (
            flatten(
                ExperimentPlan.of_json(plan.as_json()).as_json()["config"]
                | {"claim": sharing.without_prose(plan.claim)}
            )
            for plan in (self, other)
        )
        return {
            name: (own.get(name, "absent"), others.get(name, "absent"))
            for name in sorted((own.keys() | others.keys()) - set(OPERATIONAL_FIELDS))
            if own.get(name) != others.get(name)
        }

    # --- What the experiment is about -------------------------------------------------

    @property
    def name(self) -> str:
        """The experiment's name: of its run folder, figure and report."""
        return self.values["experiment"]

    @property
    def dataset(self) -> str:
        return self.values["data.dataset"]

    def run_folder(self, workdir: str = "") -> Path:
        """The absolute path of `workdir`; if empty, of runs/<experiment>-<dataset>."""
        default = f"runs/{self.name}-{path_part(self.dataset)}"
        return Path(workdir or default).expanduser().absolute()

    @functools.cached_property
    def settings(self) -> FrozenConfigDict:
        """Every field's value in sections, before arms and tuned values."""
        return _settings(self.values)

    @property
    def tuned_values(self) -> dict[str, tuple]:
        """Each tuned field's values, in the order in which they are tried."""
        return search.values_of(self.tuned)

    def layer_of(self, arm: str, name: str) -> str:
        """The layer that sets a field in the trials of an arm (`layered.LAYERS`)."""
        return self.arm_layers.get(arm, {}).get(name, self.layers[name])

    def networks(self, arm: str) -> int:
        """How many networks the trials of an arm average; 1 for single networks."""
        return sharing.value_in(self.values, self.arms[arm], "training.ensemble")

    def recipes(self) -> dict[str, dict[str, Any]]:
        """Each arm's recipe, and the choices in which the arm departs from it."""
        found = {}
        for arm, changes in self.arms.items():
            values = {**self.values, **changes}
            found[arm] = {"recipe": values["recipe"], "departures": departures(values)}
        return found

    # --- Its trials --------------------------------------------------------------------

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The measured trials that train a network, in the order in which they run.

        With a tuning stage these are at all values, of which only the chosen ones run.
        """
        return tuple(
            t for t in self.all_trials if t.networks == 1 and t.trained_as == t.arm
        )

    @property
    def stages(self) -> tuple[tuple[Trial, ...], ...]:
        """The trials of each stage; those after a tuning stage as if at the first values."""
        if not self.tuning_trials:
            return (self.trials,)
        first = self.all_trials[0].tuned_name
        return self.tuning_trials, tuple(
            trial for trial in self.trials if trial.tuned_name == first
        )

    @property
    def num_measured(self) -> int:
        """How many trials are measured: with a tuning stage, at one setting of each arm."""
        return len(self.stages[-1])

    def measured_at(self, chosen: Mapping[str, str]) -> "ExperimentPlan":
        """The second stage: the measured trials, of each arm at the chosen values only.

        Args:
          chosen: for each arm that is trained, the `tuned_name` of its values. Arms that
            share its training are measured there too.
        """
        kept = tuple(
            one for one in self.all_trials if one.tuned_name == chosen[one.trained_as]
        )
        return dataclasses.replace(self, all_trials=kept, tuning_trials=())

    @property
    def ensembles(self) -> tuple[Trial, ...]:
        """The trials that average networks which other trials have trained."""
        return tuple(trial for trial in self.all_trials if trial.networks > 1)

    def ensemble_members(self, ensemble: Trial) -> list[Trial]:
        """The trials whose networks an ensemble averages: consecutive seeds."""
        first = ensemble.seed * ensemble.networks
        seeds = range(first, first + ensemble.networks)
        return [
            trial
            for trial in self.trials
            if trial.arm == ensemble.trained_as
            and trial.tuned == ensemble.tuned
            and trial.seed in seeds
        ]

    def one_per_setting(self) -> list[Trial]:
        """The first seed's trial of each arm and tuned setting that is trained."""
        return [trial for trial in self.trials if trial.seed == 0]


@functools.lru_cache(maxsize=2)
def _plan_of(text: str) -> ExperimentPlan:
    """The plan in the JSON of an `experiment.json`."""
    held = json.loads(text)
    config = held["config"]
    sections = {k: v for k, v in config.items() if k not in ("arms", "tuned", "claim")}
    values = frozen(with_defaults(flatten(sections)))
    added = FIELDS.keys() - upgraded(flatten(sections)).keys()
    arms = {
        arm: frozen(added_choices(changes, values, added) | upgraded(changes))
        for arm, changes in config["arms"].items()
    }
    tuned = {
        ",".join(upgraded(dict.fromkeys(entry.split(",")))): frozen(tried)
        for entry, tried in config["tuned"].items()
    }
    tuned_as_held = ",".join(config["tuned"]).split(",")
    return ExperimentPlan.build(
        values,
        arms,
        tuned,
        frozen(config["claim"]),
        upgraded(held.get("layers", {})),
        held.get("arm_layers", {}),
        {RENAMED[name]: name for name in tuned_as_held if name in RENAMED},
    )


def _settings(values: Mapping[str, Any]) -> FrozenConfigDict:
    """The values in sections; a whole number is a float where the field is one.

    An arm or a tuned field may give 1 for 1.0, and keeps it in the trial's name. The step
    would be compiled again for an integer.
    """
    return FrozenConfigDict(
        nest(
            {
                name: float(value)
                if type(value) is int
                and name in FIELDS
                and type(FIELDS[name].default) is float
                else value
                for name, value in values.items()
            }
        )
    )


def _for_tuning(trial: Trial, values: Mapping[str, Any], claim: Any) -> Trial:
    """The trial as one of the stage that chooses tuned values by the claim's metric.

    It ends at the threshold of the main claim: nothing else is measured of it. Then only
    its last network is evaluated, unless its learning rate follows the evaluations.
    """
    changed = dict(flatten(trial.settings))
    if values["tuning_epochs"]:
        changed["training.num_epochs"] = values["tuning_epochs"]
    main = {key: claim[key] for key in claim if key != "also"}
    ends = sharing.answered_at({"training.stop_when_answered": True}, main)
    if ends is not None and changed["optimizer.schedule"] != "plateau":
        changed["training.evaluate_every_epochs"] = changed["training.num_epochs"]
    return dataclasses.replace(
        trial, settings=_settings(changed), stops_at=ends, for_tuning=True
    )
