"""The loss that is minimized, against its definition and against PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.config import base
from alexnet_jax.config.resolve import resolve
from alexnet_jax.errors import UserError
from alexnet_jax.training.objective import Objective, Targets
from alexnet_jax.training.step import dropout_keys

rng = np.random.default_rng(0)
LOGITS = rng.normal(0, 3, (6, 5)).astype(np.float32)
LABELS = np.array([0, 4, 2, 2, 1, 3])
OTHERS = np.array([4, 0, 2, 2, 3, 1])
SHARES = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 1.0], np.float32)
CERTAIN, MIXED = (
    Targets(jnp.asarray(LABELS)),
    Targets(*map(jnp.asarray, (LABELS, OTHERS, SHARES))),
)


def probabilities(targets, smoothing):
    """What the targets are as a distribution over the classes."""
    rows = np.eye(5)[LABELS]
    if targets is MIXED:
        rows = SHARES[:, None] * rows + (1 - SHARES[:, None]) * np.eye(5)[OTHERS]
    return (1 - smoothing) * rows + smoothing / 5


@pytest.mark.parametrize("targets", [CERTAIN, MIXED], ids=["certain", "mixed"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_losses_are_cross_entropies_with_the_targets(smoothing, targets):
    logits = LOGITS.astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -(probabilities(targets, smoothing) * log_p).sum(1)
    found = Objective(smoothing).losses(jnp.asarray(LOGITS), targets)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("targets", [CERTAIN, MIXED], ids=["certain", "mixed"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_those_of_torch(smoothing, targets):
    torch = pytest.importorskip("torch", reason="PyTorch is an optional package")
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(LOGITS),
        torch.tensor(probabilities(targets, 0.0), dtype=torch.float32),
        reduction="none",
        label_smoothing=smoothing,
    )
    found = Objective(smoothing).losses(jnp.asarray(LOGITS), targets)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)


# --- Mixed images -----------------------------------------------------------------------

SIDE = 20
CUT, MIX = Objective(cutmix=1.0), Objective(mixup=1.0)


def keys_of(count, *, seed=0):
    numbers = jnp.arange(count, dtype=jnp.int32)
    return dropout_keys(jnp.uint32(seed), numbers // 7, numbers)


def numbered(count):
    """Images whose every pixel is the image's number, and labels that are it too."""
    numbers = jnp.arange(count)
    images = jnp.broadcast_to(numbers[:, None, None, None], (count, SIDE, SIDE, 3))
    return images.astype(jnp.float32), numbers


def partner(number):
    return number ^ 1


def test_without_mixing_nothing_changes():
    images, labels = numbered(4)
    mixed, targets = Objective().mixed(images, labels, keys_of(4))
    assert mixed is images
    assert targets == (labels, None, None)


def test_an_odd_number_of_images_at_a_time_is_refused():
    """Which would be other pairs on other devices."""
    with pytest.raises(UserError, match="a device has 9 at a time"):
        CUT.mixed(*numbered(9), keys_of(9))
    config = base()
    config.data.mixup = 0.2
    config.training.batch_size = 12
    config.training.gradient_accumulation = 4
    with pytest.raises(UserError, match="a step sees 3 at a time"):
        resolve(config, {})


def test_a_box_of_each_image_is_its_partners():
    """Neighbors are partners."""
    images, labels = numbered(8)
    mixed, targets = CUT.mixed(images, labels, keys_of(8))
    boxes = 0
    for number, image in enumerate(np.asarray(mixed)):
        other = partner(number)
        assert set(np.unique(image)) <= {number, other}
        own = np.mean(image == number)
        label, second = (number, other) if own >= 0.5 else (other, number)
        assert (int(targets.labels[number]), int(targets.others[number])) == (
            label,
            second,
        )
        if other != number:
            assert targets.shares[number] == pytest.approx(max(own, 1 - own), abs=1e-6)
            rows, columns, _ = np.nonzero(image == other)
            if len(rows):
                height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
                assert height * width * 3 == len(rows)  # a whole rectangle
                boxes += 1
    assert boxes >= 4


def test_each_image_is_a_mean_with_its_partner():
    images, labels = numbered(8)
    mixed, targets = MIX.mixed(images, labels, keys_of(8))
    for number, image in enumerate(np.asarray(mixed)):
        assert np.ptp(image) == 0
        label, other = int(targets.labels[number]), int(targets.others[number])
        assert {label, other} == {number, partner(number)}
        share = float(targets.shares[number])
        assert image[0, 0, 0] == pytest.approx(
            share * label + (1 - share) * other, rel=1e-5
        )
        assert 0.5 <= share <= 1


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_shares_have_the_variance_of_their_beta_distribution(alpha):
    count = 4000
    _, targets = Objective(mixup=alpha).mixed(*numbered(count), keys_of(count))
    assert (targets.shares >= 0.5).all()
    own = jnp.where(
        targets.labels == jnp.arange(count), targets.shares, 1 - targets.shares
    )
    assert own.mean() == pytest.approx(0.5, abs=0.03)
    assert own.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)


def test_with_both_an_image_is_mixed_in_either_way():
    images, labels = numbered(200)
    mixed, _ = Objective(mixup=1.0, cutmix=1.0).mixed(images, labels, keys_of(200))
    whole = (
        np.ptp(np.asarray(mixed), axis=(1, 2, 3)) == 0
    )  # a mean, or a box of none or all
    assert 0.35 < whole.mean() < 0.75


@pytest.mark.parametrize("objective", [CUT, MIX], ids=["cutmix", "mixup"])
def test_mixing_is_a_function_of_the_example_not_of_the_batch(objective):
    images = jnp.asarray(rng.normal(0, 1, (8, SIDE, SIDE, 3)), jnp.float32)
    labels, keys = jnp.arange(8), keys_of(8)
    whole = objective.mixed(images, labels, keys)
    parts = [
        objective.mixed(images[part], labels[part], keys[part])
        for part in (slice(0, 2), slice(2, 8))
    ]
    together = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    jax.tree.map(np.testing.assert_array_equal, whole, together)
    other = objective.mixed(images, labels, keys_of(8, seed=1))
    assert (other[0] != whole[0]).any()


def test_areas_are_drawn_evenly_where_alpha_is_1():
    """A box that is whole covers 1 - share; those at the edges cover less."""
    count = 2000
    _, targets = CUT.mixed(*numbered(count), keys_of(count))
    own = jnp.where(
        targets.labels == jnp.arange(count), targets.shares, 1 - targets.shares
    )
    assert 0.5 < own.mean() < 0.75  # 0.5 without an edge
    assert own.min() < 0.15
    assert own.max() == 1
