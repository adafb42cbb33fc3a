"""The files in configs/: each asks one question, most of them of the paper."""

import ast
import re
import runpy
from pathlib import Path
from typing import NamedTuple

import jax
import pytest
from small_question import resolved

from alexnet_jax.config.fields import FIELDS
from alexnet_jax.config.layered import get_field
from alexnet_jax.model.network import build

CONFIGS = {
    path.stem: path for path in (Path(__file__).parents[2] / "configs").glob("*.py")
}


class Question(NamedTuple):
    """What a config file asks.

    Attributes:
      fields: the fields in which its arms differ: more would answer another question.
        None: a recipe each.
      dataset: the data of the paper's number. Networks 145, 147 and 148 of the code of 2012
        were tested on the validation set of 2012, 145-2010 and 145-half on the test set of
        2010. Where the paper names none, its main dataset, that of 2012.
      numbers: the metric and the paper's number of each claim, the main claim first;
        "higher" where the paper gives a direction only, None where it claims nothing.
    """

    fields: set[str] | None
    dataset: str
    numbers: list[tuple[str, float | str | None]]


QUESTIONS = {
    "after_2012": Question(
        {
            "data.channel_scale",
            "data.mixup",
            "data.random_resized_crop",
            "model.activation",
            "model.initialization",
            "model.normalization",
            "optimizer.bias_drops",
            "optimizer.bias_lr_multiplier",
            "optimizer.ema_decay",
            "optimizer.learning_rate",
            "optimizer.name",
            "optimizer.schedule",
            "optimizer.warmup_epochs",
            "optimizer.weight_decay",
            "training.label_smoothing",
        },
        "imagenet2012",
        [("top1_error", None)],
    ),
    "alexnet": Question(set(), "imagenet2012", [("top5_error", 0.182)]),
    "bias_initialization": Question(
        {"model.biases"}, "imagenet2012", [("epochs_to_train_error", "higher")]
    ),
    "crops_and_flips": Question(
        {"data.random_crop", "data.random_flip"},
        "imagenet2012",
        [("top1_error", "higher"), ("overfitting_gap", "higher")],
    ),
    "depth": Question({"model.channels"}, "imagenet2012", [("top1_error", 0.02)]),
    "dropout": Question(
        {"model.dropout_rate"},
        "imagenet2012",
        [
            ("top1_error", "higher"),
            ("overfitting_gap", "higher"),
            ("epochs_to_train_error", 2.0),  # "doubles the number of iterations"
        ],
    ),
    "ensemble": Question(  # Table 2
        {"training.ensemble"},
        "imagenet2012",
        [("top1_error", 0.407 - 0.381), ("top5_error", 0.182 - 0.164)],
    ),
    "large_batch": Question(
        {
            "optimizer.bias_lr_multiplier",
            "optimizer.learning_rate",
            "optimizer.name",
            "optimizer.warmup_epochs",
            "training.batch_size",
        },
        "imagenet2012",
        [("top1_error", None)],
    ),
    "lighting": Question(
        {"data.lighting_std", "data.lighting_scale"},
        "imagenet2012",
        [("top1_error", 0.01)],
    ),
    "local_response_norm": Question(  # 145 against 148
        {"model.normalization", "model.within_channel_norm"},
        "imagenet2012",
        [("top1_error", 0.014), ("top5_error", 0.012)],
    ),
    "overlapping_pooling": Question(  # 145 against 147
        {"model.pool_window", "model.pool_rounding"},
        "imagenet2012",
        [("top1_error", 0.004), ("top5_error", 0.003)],
    ),
    "recipes": Question(None, "imagenet2012", [("top1_error", None)]),
    "relu_vs_tanh": Question(  # Figure 1
        {"model.activation"}, "cifar10", [("epochs_to_train_error", 6.0)]
    ),
    "ten_views": Question(  # Table 1 and its footnote: 145-2010
        {"data.eval_crops"},
        "imagenet2010",
        [("top1_error", 0.390 - 0.375), ("top5_error", 0.183 - 0.170)],
    ),
    "two_towers": Question(  # 145-2010 against 145-half
        {"model.towers", "model.channels"},
        "imagenet2010",
        [("top1_error", 0.017), ("top5_error", 0.012)],
    ),
    "weight_decay": Question(
        {"optimizer.weight_decay"}, "imagenet2012", [("train_top1_error", "higher")]
    ),
}

# Questions of one's own, which need more than a dataset: tests/config/test_network_form.py.
WITHOUT_CLAIM = ("finetune",)

all_configs = pytest.mark.parametrize("name", QUESTIONS)
small_and_full = pytest.mark.parametrize("dataset", ["digits", "imagenet2012"])


def load(name, *dataset):
    return runpy.run_path(str(CONFIGS[name]))["get_config"](*dataset)


def claims(claim):
    """The main claim, then those under its "also" with what they leave out."""
    main = {key: value for key, value in claim.items() if key != "also"}
    return [main, *(main | further for further in claim.get("also", ()))]


def pairs(claim):
    """The pairs of arms that a claim compares."""
    compared = claim.get("compare", ())
    return [compared] if compared and isinstance(compared[0], str) else list(compared)


def initial_shapes(settings, num_classes=1000):
    """The shape of every parameter of a trial's network."""
    size = settings.data.crop_size
    network = build(settings.model, image_size=size, num_classes=num_classes)
    return jax.eval_shape(network.initialize, jax.random.key(0))


# --- Each file ----------------------------------------------------------------------------


def test_every_file_is_a_question_of_the_table():
    assert set(CONFIGS) == {*QUESTIONS, *WITHOUT_CLAIM}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_file_names_its_section_its_command_and_what_to_expect(name):
    text = ast.get_docstring(ast.parse(CONFIGS[name].read_text()))
    assert re.match(r"Sections? \d(\.\d)?\b", text)
    assert f"python -m alexnet_jax.main --config=configs/{name}.py" in text
    assert "Expect:" in text


@all_configs
@small_and_full
def test_arms_differ_in_the_ablated_fields_and_in_nothing_else(name, dataset):
    config = load(name, dataset)
    changed = {field for changes in config.arms.values() for field in changes}
    fields = QUESTIONS[name].fields
    if fields is None:
        assert all("recipe" in changes for changes in config.arms.values())
    elif dataset == "imagenet2012":
        assert changed == fields

    plan = resolved(config)
    assert (plan.name, plan.dataset) == (name, dataset)
    assert plan.trials
    may_differ = {field for changes in plan.arms.values() for field in changes}
    may_differ |= set(plan.tuned_values)
    for trial in plan.all_trials:
        own = {field: get_field(trial.settings, field) for field in FIELDS}
        assert {
            field for field in FIELDS if own[field] != plan.values[field]
        } <= may_differ
        for field, value in (plan.arms[trial.arm] | trial.tuned).items():
            assert own[field] == value
        assert trial.settings.training.checkpoint_every_epochs > 0, "for its notebook"
    for field in changed:
        assert (
            len(
                {
                    changes.get(field, plan.values[field])
                    for changes in plan.arms.values()
                }
            )
            > 1
        )


@all_configs
@small_and_full
def test_a_claim_compares_the_papers_numbers_on_the_papers_data(name, dataset):
    config = load(name, dataset)
    found = claims(config.claim)
    assert {claim["dataset"] for claim in found} == {QUESTIONS[name].dataset}
    expected = QUESTIONS[name].numbers
    assert [claim["metric"] for claim in found] == [metric for metric, _ in expected]
    for claim, (_, number) in zip(found, expected, strict=True):
        assert claim["paper"] == (
            pytest.approx(number) if isinstance(number, float) else number
        )
        assert {arm for pair in pairs(claim) for arm in pair} <= set(config.arms)
        assert all(len(set(pair)) == 2 for pair in pairs(claim))
        assert claim["section"]
        assert claim["text"]


@all_configs
def test_a_file_gives_the_same_for_every_way_to_write_a_data_set(name):
    assert load(name) == load(name, "digits")
    for dataset in ("cifar10", "fashion_mnist"):
        expected = load(name, dataset).to_dict()
        assert expected["data"].pop("dataset") == dataset
        for written in ("tfds={}", "{}:3.0.1", "tfds={}:3.0.1"):
            found = load(name, written.format(dataset)).to_dict()
            assert found["data"].pop("dataset") == written.format(dataset)
            assert found == expected
        resolved(load(name, dataset))
    resolved(load(name, "folder=/x"))


# --- Facts of single files ----------------------------------------------------------------


def test_the_iterations_with_dropout_are_compared_to_those_without():
    assert claims(load("dropout").claim)[2]["compare"] == ("dropout", "no dropout")


def test_crops_are_compared_without_flips_too():
    """A reflected digit is another sign, so that "both" is not a fair arm on digits."""
    for claim in claims(load("crops_and_flips").claim):
        assert ("none", "crops only") in pairs(claim)


@pytest.mark.parametrize(("dataset", "units"), [("imagenet2012", 9216), ("digits", 32)])
def test_pooling_with_and_without_overlap_gives_maps_of_the_same_sizes(dataset, units):
    """Section 3.4: of 6 by 6 pixels and 256 channels at last; 1 by 1 and 32 on digits."""
    overlapping, other = (
        initial_shapes(trial.settings)
        for trial in resolved(load("overlapping_pooling", dataset)).trials
        if trial.seed == 0
    )
    assert overlapping["fc6"]["kernel"].shape[0] == units
    assert jax.tree.map(lambda leaf: leaf.shape, overlapping) == jax.tree.map(
        lambda leaf: leaf.shape, other
    )


def test_normalization_on_cifar10_is_that_of_the_network_of_2011():
    """Network 11pct: 9 channels, 0.001 divided by their number, k 1, exponent 0.75."""
    settings = resolved(load("local_response_norm", "cifar10")).trials[0].settings
    model = settings.model
    assert (model.name, model.normalization) == ("four_layer", "local_response")
    assert (model.norm_depth, model.norm_k, model.norm_beta) == (9, 1.0, 0.75)
    assert model.norm_alpha == pytest.approx(0.001 / 9)
    assert settings.optimizer.weight_decay == 0.004


def test_normalization_on_cifar10_claims_two_points_there():
    """Section 3.3: 13% without normalization, 11% with it."""
    (claim,) = claims(load("local_response_norm", "cifar10").claim)
    assert claim["dataset"] == "cifar10"
    assert claim["paper"] == pytest.approx(0.13 - 0.11)


def test_one_tower_has_98_percent_of_the_parameters():
    """Section 3.2, and network 145-half of the code of 2012."""
    counts = {
        trial.arm: sum(
            leaf.size for leaf in jax.tree.leaves(initial_shapes(trial.settings))
        )
        for trial in resolved(load("two_towers", "imagenet2012")).trials
        if trial.seed == 0
    }
    assert counts["one tower"] == 59_798_312
    assert counts["one tower"] / counts["two towers"] == pytest.approx(0.981, abs=5e-4)


def test_every_later_idea_stands_alone_and_among_all_together():
    arms = {name: dict(changes) for name, changes in load("after_2012").arms.items()}
    together, ideas = arms.pop("all together"), [v for v in arms.values() if v]
    assert len(ideas) == 9
    assert together == {field: v for idea in ideas for field, v in idea.items()}
    assert len(together) == sum(map(len, ideas))


@pytest.mark.parametrize(
    ("dataset", "batch", "rate"), [("imagenet2012", 128, 0.01), ("cifar10", 32, 0.0025)]
)
def test_larger_batches_have_linearly_scaled_rates_after_a_warm_up(
    dataset, batch, rate
):
    """Goyal et al. (2017): 5 of 90 epochs."""
    plan = resolved(load("large_batch", dataset))
    found = {trial.arm: trial.settings for trial in plan.trials if trial.seed == 0}
    for factor in (1, 8, 64):
        settings = found[f"batch {batch * factor}"]
        assert settings.training.batch_size == batch * factor
        assert settings.optimizer.learning_rate == pytest.approx(rate * factor)
        warmup = settings.training.num_epochs / 18 if factor > 1 else 0
        assert settings.optimizer.warmup_epochs == pytest.approx(warmup, abs=0.005)
    for factor, rate in ((8, 1.25), (64, 10.0)):
        lars = found[f"batch {batch * factor} LARS"].optimizer
        assert (lars.name, lars.learning_rate) == ("lars", rate)
        linear = found[f"batch {batch * factor}"].optimizer
        assert lars.bias_lr_multiplier * rate == pytest.approx(
            linear.bias_lr_multiplier * linear.learning_rate
        )
