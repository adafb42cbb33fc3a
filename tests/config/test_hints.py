"""What is reported about a field or a flag that does not exist."""

import pytest

from alexnet_jax.config.fields import FIELDS
from alexnet_jax.config.hints import ELSEWHERE, NOT_OFFERED, hint
from alexnet_jax.config.old_names import RENAMED


@pytest.mark.parametrize(
    "name",
    [
        "nesterov",
    ],
)
def test_a_known_idea_is_not_offered_and_no_other_field_is_named(name):
    assert "is not offered" in hint(name)
    assert "Did you mean" not in hint(name)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("optimizer.lr", "optimizer.learning_rate"),
        ("epochs", "training.num_epochs"),
        ("smoothing_factor", "training.label_smoothing"),
        ("optimizer.drop_epoch", "optimizer.drop_epochs"),
        ("optimizer.layer_lr_multiplier", "optimizer.layer_lr_multipliers"),
        ("use_batch_norm", "model.normalization"),
        ("optimizer.warm_up_steps", "optimizer.warmup_epochs"),
        ("optimizer.learning_rat", "optimizer.learning_rate"),
        ("training.batchsize", "training.batch_size"),
        ("model.weight_decay", "optimizer.weight_decay"),
        ("data.views", "data.eval_crops"),
    ],
)
def test_a_field_by_another_name_is_named(name, field):
    assert f"'{field}'" in hint(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("metric", "config.claim = {'metric': 'top1_error'}"),
        ("workdir", "--workdir=DIR"),
        ("arms", "The config file sets 'arms'."),
        ("optimizer", "The field is 'optimizer.name'."),
        ("training", "'training.FIELD'"),
    ],
)
def test_what_is_no_field_is_told_where_it_is(name, said):
    assert said in hint(name)


@pytest.mark.parametrize("name", ["model.colour", "frobnicate", "x", ""])
def test_nothing_is_suggested_where_nothing_is_near(name):
    assert hint(name) == ""


def test_no_field_is_said_to_be_missing():
    last = {name.rpartition(".")[2] for name in FIELDS} - {"dataset"}
    other = ELSEWHERE.keys() | NOT_OFFERED.keys()
    assert not last & other
    names = [name for field in FIELDS.values() for name in field.also]
    assert not set(names) & (last | other)
    assert len(names) == len(set(names))
    assert all(RENAMED[old] in hint(old) for old in RENAMED)
