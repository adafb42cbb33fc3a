"""The loss that is minimized, against its definition and against PyTorch's."""

import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.training.objective import Objective

rng = np.random.default_rng(0)
LOGITS = rng.normal(0, 3, (6, 5)).astype(np.float32)
LABELS = np.array([0, 4, 2, 2, 1, 3])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_losses_are_cross_entropies_with_smoothed_labels(smoothing):
    logits = LOGITS.astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    smoothed = np.full((6, 5), smoothing / 5)
    smoothed[np.arange(6), LABELS] += 1 - smoothing
    found = Objective(smoothing).losses(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    np.testing.assert_allclose(found, -(smoothed * log_p).sum(1), rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_those_of_torch(smoothing):
    torch = pytest.importorskip("torch", reason="PyTorch is an optional package")
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(LOGITS),
        torch.tensor(LABELS),
        reduction="none",
        label_smoothing=smoothing,
    )
    found = Objective(smoothing).losses(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)
