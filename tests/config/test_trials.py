"""The plan of an experiment: its trials, their groups and averages, and experiment.json."""

import dataclasses
import json
import pickle

import pytest
from small_question import question, resolved

from alexnet_jax.config import search
from alexnet_jax.config.fields import FIELDS
from alexnet_jax.config.layered import get_field, mutable
from alexnet_jax.config.old_names import RENAMED
from alexnet_jax.config.presets import base, starting_values
from alexnet_jax.config.recipes import CHOICES
from alexnet_jax.config.trials import ExperimentPlan
from alexnet_jax.errors import UserError

RATE, MOMENTUM = "optimizer.learning_rate", "optimizer.momentum"


def read_back(held):
    """The plan of what experiment.json holds, after a way through a file."""
    return ExperimentPlan.of_json(json.loads(json.dumps(held)))


# --- Trials -------------------------------------------------------------------------------


def test_trials_are_arms_times_tuned_values_times_seeds():
    plan = resolved(question(tuned={RATE: (0.01, 0.1), MOMENTUM: (0.0, 0.9)}))
    assert [trial.folder for trial in plan.trials] == [
        f"{arm}/learning_rate={rate},momentum={momentum}/seed{seed}"
        for arm in ("ReLU", "tanh")
        for rate in ("0.01", "0.1")
        for momentum in ("0.0", "0.9")
        for seed in range(2)
    ]
    assert plan.all_trials == plan.trials
    assert len(plan.one_per_setting()) == 2 * 4
    assert plan.tuned_values == {RATE: (0.01, 0.1), MOMENTUM: (0.0, 0.9)}


def test_a_trial_has_its_arm_its_tuned_values_and_all_settings():
    plan = resolved(question())
    trial = plan.trials[-1]
    assert (trial.arm, trial.tuned, trial.seed) == ("tanh", {RATE: 0.1}, 1)
    assert trial.tuned_name == "learning_rate=0.1"
    assert trial.name == "tanh learning_rate=0.1 seed1"
    assert trial.records_folder == trial.folder
    assert trial.settings.model.activation == "tanh"
    assert trial.settings.optimizer.learning_rate == 0.1
    own = {"model.activation", RATE}
    for name in set(FIELDS) - own:
        assert get_field(trial.settings, name) == plan.values[name]
    assert plan.settings.optimizer.learning_rate == 0.001  # before tuned values


def test_without_arms_there_is_one_trial_by_the_experiments_name():
    plan = resolved(base())
    assert (plan.name, plan.dataset) == ("alexnet", "digits")
    (trial,) = plan.trials
    assert trial.folder == "alexnet/seed0"
    assert trial.tuned_name == ""


def test_a_whole_number_is_a_float_in_settings_and_stays_in_names():
    plan = resolved(
        question(
            arms={"a": {"optimizer.weight_decay": 1}, "b": {}}, tuned={RATE: (1, 2)}
        )
    )
    trial = plan.trials[0]
    assert trial.folder == "a/learning_rate=1/seed0"
    for name in ("optimizer.weight_decay", RATE):
        assert type(get_field(trial.settings, name)) is float
    assert type(trial.settings.seeds) is int


def test_plans_are_immutable_and_can_be_sent_to_other_processes():
    plan = resolved(question())
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.values = {}
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.trials[0].seed = 3
    with pytest.raises(AttributeError):
        plan.trials[0].settings.optimizer.learning_rate = 1.0
    plan = resolved(question(arms={"a": {"optimizer.momentum": 0.5}, "b": {}}))
    for mapping in (plan.values, plan.arms["a"], plan.layers, plan.trials[0].tuned):
        with pytest.raises(TypeError):
            mapping["optimizer.momentum"] = 0.7
    assert len({hash(trial) for trial in plan.trials}) == len(plan.trials)
    hashes = {hash(trial.settings) for trial in plan.trials}
    assert len(hashes) == 4  # seeds share their settings
    assert pickle.loads(pickle.dumps(plan)) == plan


# --- Arms that share a training, and averages ---------------------------------------------

SHARING = {
    "ten": {"data.eval_crops": "ten"},
    "center": {"data.eval_crops": "center"},
    "tanh": {"model.activation": "tanh", "data.eval_crops": "ten"},
    "two averaged": {"training.ensemble": 2, "data.eval_crops": "ten"},
}


def sharing():
    return resolved(question(arms=SHARING, seeds=4))


def test_arms_that_differ_in_the_evaluation_only_share_a_training():
    plan = sharing()
    assert {trial.arm for trial in plan.trials} == {"ten", "tanh"}
    assert len(plan.trials) == 2 * 2 * 4
    by_arm = {trial.arm: trial for trial in plan.all_trials}
    assert {arm: trial.trained_as for arm, trial in by_arm.items()} == {
        "ten": "ten",
        "center": "ten",
        "tanh": "tanh",
        "two averaged": "ten",
    }
    center = by_arm["center"]
    assert center.records_folder == "ten/learning_rate=0.1/seed3"
    assert center.folder == "center/learning_rate=0.1/seed3"
    assert center.settings.data.eval_crops == "center"


def test_a_training_is_measured_by_the_crops_of_the_arms_that_share_it():
    found = {trial.arm: trial.further_crops for trial in sharing().trials}
    assert found == {"ten": ("center",), "tanh": ()}


def test_an_average_is_of_consecutive_seeds():
    plan = sharing()
    assert [plan.networks(arm) for arm in SHARING] == [1, 1, 1, 2]
    assert len(plan.ensembles) == 2 * 2
    average = plan.ensembles[-1]
    assert (average.networks, average.seed) == (2, 1)
    assert average.records_folder == average.folder
    assert [trial.folder for trial in plan.ensemble_members(average)] == [
        "ten/learning_rate=0.1/seed2",
        "ten/learning_rate=0.1/seed3",
    ]


# --- experiment.json ----------------------------------------------------------------------


def test_a_plan_is_read_back_from_json():
    fields = {RATE: search.log_uniform(1e-4, 1e-1), MOMENTUM: search.uniform(0, 0.9)}
    claim = {"compare": (("tanh", "ReLU"),), "also": ({"paper": 0.1},), "paper": None}
    plan = resolved(question(tuned=search.draws(3, fields), claim=claim))
    assert len({trial.folder for trial in plan.trials}) == 2 * 3 * 2
    assert read_back(plan.as_json()) == plan


def test_a_plan_of_recipes_and_averages_is_read_back_from_json():
    config = base()
    config.arms = {
        "paper": {"recipe": "paper"},
        "five": {"recipe": "paper", "training.ensemble": 5},
        "caffe": {"recipe": "caffe"},
    }
    config.seeds = 5
    plan = resolved(config)
    found = read_back(plan.as_json())
    assert found == plan
    assert found.recipes() == plan.recipes()


def as_an_older_version_wrote_it(plan, without=()):
    """The config of experiment.json before the fields of RENAMED had today's names."""
    old_names = {new: old for old, new in RENAMED.items()}

    def old(values):
        return {
            old_names.get(name, name): "deviation"
            if value == "standard_deviation"
            else value
            for name, value in values.items()
            if name not in without
        }

    config = {"claim": mutable(plan.claim)}
    config["arms"] = {arm: old(changes) for arm, changes in plan.arms.items()}
    config["tuned"] = {
        ",".join(old_names.get(name, name) for name in entry.split(",")): tried
        for entry, tried in plan.tuned.items()
    }
    for name, value in old(plan.values).items():
        section, _, field = name.rpartition(".")
        (config.setdefault(section, {}) if section else config)[field] = value
    return {"config": config}


def renamed_everywhere():
    """A configuration with renamed fields in arms and among tuned values."""
    config = base()
    config.arms = {
        "paper": {"recipe": "paper"},
        "source2012": {"data.lighting_scale": "standard_deviation"},
        "ten": {"recipe": "paper", "data.eval_crops": "center"},
    }
    config.tuned = {
        "optimizer.bias_lr_multiplier,optimizer.momentum": ((1.0, 0.5), (2.0, 0.9)),
        "data.lighting_std": (0.1, 0.2),
    }
    config.model.weight_stds = (0.02,) * 9
    return config


def test_the_experiment_of_an_older_version_is_the_same_plan():
    plan = resolved(renamed_everywhere())
    held = as_an_older_version_wrote_it(plan)
    text = json.dumps(held)
    assert all(f'{old.rpartition(".")[2]}"' in text for old in RENAMED)
    assert not any(new.rpartition(".")[2] in text for new in set(RENAMED.values()))
    found = read_back(held)
    assert found.layers == {}  # not recorded then
    assert found == dataclasses.replace(plan, layers={}, arm_layers={})


def test_trials_of_an_older_version_are_where_it_wrote_them():
    """Folders have the names of tuned fields, of which some have other names today."""
    held = as_an_older_version_wrote_it(resolved(renamed_everywhere()))
    trial = read_back(held).trials[0]
    assert trial.tuned["optimizer.bias_lr_multiplier"] == 1.0
    assert trial.folder == (
        "paper/bias_rate=1.0,momentum=0.5,lighting_deviation=0.1/seed0"
    )


@pytest.mark.parametrize("name", ["model.pool_ties", "population", "data.eval_crops"])
def test_a_field_that_an_older_version_lacks_has_its_default(name):
    default = starting_values("four_layer")[name]
    plan = resolved(question(**{name.replace(".", "__"): default}))
    held = as_an_older_version_wrote_it(plan, without=(name,))
    assert read_back(held) == dataclasses.replace(plan, layers={}, arm_layers={})


def test_a_choice_that_an_older_version_lacks_is_that_of_each_arms_recipe():
    """Caffe rounds by other rules than the default recipe: an old run must not change."""
    name = "model.norm_k"
    config = base()
    config.recipe = "caffe"
    config.arms = {
        "caffe": {},
        "torchvision": {"recipe": "torchvision"},
        "k": {name: 3.0},
    }
    plan = resolved(config)
    held = as_an_older_version_wrote_it(plan, without=(name,))
    found = {
        trial.arm: trial.settings.model.norm_k for trial in read_back(held).all_trials
    }
    expected = {arm: CHOICES[name].of(arm) for arm in ("caffe", "torchvision")}
    assert found == expected | {"k": CHOICES[name].of("caffe")}


def test_a_claim_may_be_worded_anew_but_not_ask_something_else():
    claim = {"section": "3", "text": "old", "metric": "top1_error", "paper": 0.1}
    asked = {**claim, "compare": ("tanh", "ReLU"), "dataset": "cifar10"}
    asked["also"] = ({"metric": "top5_error", "paper": 0.2, "text": "old"},)
    plan = resolved(question(claim=asked))
    reworded = asked | {"text": "new", "section": "3.1"}
    reworded["also"] = ({"metric": "top5_error", "paper": 0.2, "text": "new"},)
    assert not plan.differences(resolved(question(claim=reworded)))
    other = resolved(question(claim=asked | {"paper": 0.2}))
    assert plan.differences(other) == {"claim.paper": (0.1, 0.2)}


# --- Where trials end ---------------------------------------------------------------------

EPOCHS = {"metric": "epochs_to_train_error", "threshold": 0.25}


def ends_of(claim, **changes):
    plan = resolved(question(claim=claim), **changes)
    (found,) = {trial.stops_at for trial in plan.trials}
    return found


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        (EPOCHS, 0.25),
        (EPOCHS | {"also": ({"threshold": 0.1},)}, 0.1),
        (EPOCHS | {"also": ({"metric": "top1_error"},)}, None),
        ({"metric": "top1_error"}, None),
    ],
)
def test_a_trial_ends_once_it_has_answered_all_that_is_asked(claim, expected):
    assert ends_of(claim) == expected


def test_a_trial_can_be_asked_to_go_on():
    assert ends_of(EPOCHS, training__stop_when_answered=False) is None


# --- A tuning stage -------------------------------------------------------------------------


def staged(**changes):
    rates = (0.001, 0.003, 0.01, 0.03)
    changes = {"tuned": {RATE: rates}, "claim": EPOCHS, "tuning_seeds": 2} | changes
    return resolved(question(**changes))


def test_tuning_trials_have_seeds_of_their_own_and_begin_with_the_middle_values():
    plan = staged(tuning_epochs=5.0, training__num_epochs=20.0)
    assert [(one.arm, one.tuned[RATE], one.seed) for one in plan.tuning_trials] == [
        (arm, rate, seed)
        for arm in ("ReLU", "tanh")
        for rate in (0.003, 0.01, 0.001, 0.03)
        for seed in (1000, 1001)
    ]
    epochs = {one.settings.training.num_epochs for one in plan.tuning_trials}
    assert epochs == {5.0}
    assert all(one.for_tuning for one in plan.tuning_trials)
    assert not any(one.for_tuning for one in plan.all_trials)
    assert read_back(plan.as_json()) == plan


def test_the_second_stage_is_at_the_chosen_values_only():
    plan = staged()
    chosen = {"ReLU": "learning_rate=0.01", "tanh": "learning_rate=0.03"}
    second = plan.measured_at(chosen)
    assert [(one.arm, one.tuned[RATE], one.seed) for one in second.trials] == [
        (arm, rate, seed)
        for arm, rate in (("ReLU", 0.01), ("tanh", 0.03))
        for seed in range(2)
    ]
    assert (second.tuning_trials, second.num_measured) == ((), plan.num_measured)


def test_arms_that_share_a_training_share_its_choice():
    arms = {
        "one crop": {"data.eval_crops": "center"},
        "ten crops": {"data.eval_crops": "ten"},
    }
    plan = staged(arms=arms, claim={"metric": "top1_error"})
    assert {one.arm for one in plan.tuning_trials} == {"one crop"}
    second = plan.measured_at({"one crop": "learning_rate=0.01"})
    assert {one.tuned[RATE] for one in second.all_trials} == {0.01}
    assert {one.arm for one in second.all_trials} == set(arms)


def test_a_single_value_needs_no_stage():
    config = question(tuned={RATE: (0.001, 0.01)}, tuning_seeds=1)
    plan = resolved(config, optimizer__learning_rate=0.02)
    assert plan.tuning_trials == ()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tuned": {}, "tuning_seeds": 1}, "config.tuning_seeds=1"),
        ({"tuning_epochs": 2.0}, "config.tuning_epochs=2.0"),
        ({"arms": {"a": {}, "b": {"tuning_seeds": 2}}}, "tuning_seeds"),
    ],
)
def test_a_stage_without_effect_is_refused(changes, named):
    with pytest.raises(UserError, match=named):
        resolved(question(**changes))


def test_a_command_leaves_out_the_stage_of_a_file_with_its_epochs():
    config = question(tuned={RATE: (0.001, 0.01)}, tuning_seeds=1, tuning_epochs=2.0)
    assert resolved(config).tuning_trials
    plan = resolved(config, tuning_seeds=0)
    assert not plan.tuning_trials
    assert len(plan.trials) == 2 * 2 * plan.values["seeds"]
    with pytest.raises(UserError, match=r"config\.tuning_epochs=2"):
        resolved(config, tuning_seeds=0, tuning_epochs=2.0)


@pytest.mark.parametrize(
    "claim",
    [
        {"metric": "epochs_to_train_error"},
        {"metric": "epochs_to_train_error", "threshold": "a", "also": ({},)},
        EPOCHS | {"also": ("x",)},
        EPOCHS | {"also": "x"},
    ],
)
def test_a_faulty_claim_is_left_to_its_own_check(claim):
    assert ends_of(claim) is None


def test_tuning_trials_that_train_the_same_are_refused():
    changes = {"tuned": {"training.num_epochs": (10.0, 20.0)}, "tuning_seeds": 1}
    resolved(question(**changes))
    with pytest.raises(UserError, match="tuning ReLU num_epochs"):
        resolved(question(tuning_epochs=5.0, **changes))


def test_a_tuning_stage_is_no_longer_than_what_is_measured():
    with pytest.raises(UserError, match="more than the 20 epochs of arm 'ReLU'"):
        staged(tuning_epochs=21.0, training__num_epochs=20.0)


def test_a_stage_without_a_choice_is_refused_where_it_is_asked_for():
    with pytest.raises(UserError, match="tuning_seeds=2 has no effect"):
        resolved(question(), tuning_seeds=2, optimizer__learning_rate=0.02)


def test_the_stages_are_those_that_run():
    plan = staged(seeds=3)
    tuning, measured = plan.stages
    assert tuning == plan.tuning_trials
    assert [(one.arm, one.seed) for one in measured] == [
        (arm, seed) for arm in ("ReLU", "tanh") for seed in range(3)
    ]
    assert resolved(question()).stages == (resolved(question()).trials,)
