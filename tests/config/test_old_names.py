"""What run folders and checkpoints of older versions hold, in the terms of this one."""

from alexnet_jax.config.fields import FIELDS
from alexnet_jax.config.old_names import RENAMED, upgraded


def test_old_names_lead_to_todays_fields():
    assert set(RENAMED.values()) <= set(FIELDS)
    assert not set(RENAMED) & set(FIELDS)
    assert len(set(RENAMED.values())) == len(RENAMED)


def test_values_of_an_older_version_have_todays_names_and_values():
    old = {
        "data.lighting_deviation": 0.1,
        "data.lighting_scale": "deviation",
        "model.weight_deviations": [0.1, 0.2],
        "seeds": 3,
    }
    new = {
        "data.lighting_std": 0.1,
        "data.lighting_scale": "standard_deviation",
        "model.weight_stds": [0.1, 0.2],
        "seeds": 3,
    }
    assert upgraded(old) == new
    assert upgraded(new) == new
