"""Names of datasets: their forms, their short names, and their part of a path."""

import pytest

from alexnet_jax.config.dataset_names import check_dataset, path_part, short_name
from alexnet_jax.errors import UserError


@pytest.mark.parametrize(
    ("dataset", "short", "path"),
    [
        ("digits", "digits", "digits"),
        ("cifar10", "cifar10", "cifar10"),
        ("cifar10:3.0.2", "cifar10", "cifar10-3.0.2"),
        ("tfds=cifar10:3.0.2", "cifar10", "cifar10-3.0.2"),
        (
            "tfds=imagenet_v2/matched-frequency:3.0.0",
            "imagenet_v2",
            "imagenet_v2-matched-frequency-3.0.0",
        ),
        ("folder=/data/cifar10", "folder=/data/cifar10", "cifar10"),
        ("folder=some/where/images", "folder=some/where/images", "images"),
        ("folder=digits", "folder=digits", "digits"),
        ("npz=some/where/mnist.npz", "npz=some/where/mnist.npz", "mnist"),
    ],
)
def test_a_data_set_has_a_short_name_and_a_part_of_a_path(dataset, short, path):
    assert check_dataset(dataset) == dataset
    assert short_name(dataset) == short
    assert path_part(dataset) == path


@pytest.mark.parametrize(
    ("dataset", "near"),
    [
        ("flder=/x", "Did you mean 'folder'"),
        ("tdfs=mnist", "Did you mean 'tfds'"),
        ("url=x", ""),
        ("=mnist", ""),
    ],
)
def test_an_unknown_kind_is_refused_with_the_forms_and_the_nearest_kind(dataset, near):
    with pytest.raises(
        UserError, match=r"tfds=NAME, folder=PATH or npz=FILE"
    ) as raised:
        check_dataset(dataset)
    assert repr(dataset) in str(raised.value)
    assert near in str(raised.value)


@pytest.mark.parametrize("dataset", ["", "tfds=", "folder="])
def test_an_empty_name_is_refused_with_the_forms(dataset):
    with pytest.raises(
        UserError, match=r"No dataset .*tfds=NAME, folder=PATH or npz=FILE"
    ):
        check_dataset(dataset)
