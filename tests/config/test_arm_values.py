"""Values of an arm that the command line gives, to this arm and to no other."""

import pytest
from small_question import question, resolved

from alexnet_jax.config.arm_values import FromCommandLine
from alexnet_jax.config.layered import get_field
from alexnet_jax.config.trials import ExperimentPlan
from alexnet_jax.errors import UserError

FIELD = "training.init_from"


def asked(value, **changes):
    """Two arms, of which the second takes a field from the command line."""
    config = question(**changes)
    config.tuned = {}
    config.arms = {"old": {FIELD: ""}, "new": {FIELD: value}}
    return config


def values_of(plan):
    return {trial.arm: get_field(trial.settings, FIELD) for trial in plan.trials}


def test_the_command_line_gives_a_value_to_one_arm_alone():
    plan = resolved(asked(FromCommandLine()), training__init_from="/x")
    assert values_of(plan) == {"old": "", "new": "/x"}
    layers = {arm: plan.layer_of(arm, FIELD) for arm in plan.arms}
    assert layers == {"old": "arm", "new": "command line"}
    # As experiment.json holds it.
    assert values_of(ExperimentPlan.of_json(plan.as_json())) == values_of(plan)


def test_without_the_flag_an_arm_has_its_default():
    config = asked(FromCommandLine(0))
    config.arms = {
        "old": {"optimizer.frozen_layers": 0, "optimizer.momentum": 0.5},
        "new": {"optimizer.frozen_layers": FromCommandLine(2)},
    }
    for given, frozen in (({}, 2), ({"optimizer__frozen_layers": 3}, 3)):
        plan = resolved(config, **given)
        found = [trial.settings.optimizer.frozen_layers for trial in plan.trials]
        assert found == [0, 0, frozen, frozen]


@pytest.mark.parametrize("given", [{}, {"training__init_from": ""}])
def test_a_value_that_must_be_given_is_asked_for(given):
    """Also where the flag is empty, as for a shell's variable that is not set."""
    config = asked(FromCommandLine(what="a trained network"))
    with pytest.raises(UserError) as caught:
        resolved(config, **given)
    message = str(caught.value)
    assert message.startswith(
        "Arm 'new' needs --config.training.init_from=...: give a trained network."
    )
    assert ("The flag is empty." in message) == bool(given)


def test_the_other_arms_must_set_the_field():
    config = asked(FromCommandLine("x"))
    config.arms["old"] = {"optimizer.momentum": 0.5}
    with pytest.raises(UserError, match="arm 'old' must set it too"):
        resolved(config)


def test_other_fields_of_arms_are_still_not_overridden():
    config = asked(FromCommandLine("/x"))
    config.arms["new"]["optimizer.momentum"] = 0.5
    with pytest.raises(UserError, match=r"optimizer\.momentum cannot be overridden"):
        resolved(config, optimizer__momentum=0.7)
