"""The operations that a step's floor counts, and its share in a table."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from benchmarks import floors, matrix_products
from benchmarks.timing import BenchmarkSettings


def test_a_step_has_three_products_of_each_layer_but_two_of_the_first():
    def logits(params, images):
        x = lax.conv_general_dilated(
            images,
            params["conv"],
            (2, 2),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = lax.conv_general_dilated(
            x,
            params["grouped"],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=2,
        )
        return jax.jit(jnp.matmul)(x.reshape(len(x), -1), params["dense"])

    params = {
        "conv": jnp.zeros((5, 5, 3, 4)),
        "grouped": jnp.zeros((3, 3, 2, 6)),
        "dense": jnp.zeros((4 * 4 * 6, 10)),
    }
    first = 7 * 4 * 4 * 4 * (5 * 5 * 3)
    others = 7 * 4 * 4 * 6 * (3 * 3 * 2) + 7 * 10 * (4 * 4 * 6)
    found = matrix_products.step_gflop(logits, params, jnp.zeros((7, 8, 8, 3)))
    assert found == pytest.approx(2 * (2 * first + 3 * others) / 1e9)


def test_the_matrix_product_counts_that_of_each_device():
    comparison = matrix_products.matrix_product(BenchmarkSettings(1, "float32"))
    assert comparison.gflop == pytest.approx(2 * 1.024**3 * len(jax.local_devices()))
    for run in comparison.implementations.values():
        run()


@pytest.mark.parametrize(
    ("milliseconds", "cores", "said"),
    [
        (50.0, "core", "  floor/ours 0.80 met (target 0.60)"),
        (80.0, "core", "  floor/ours 0.50 missed (target 0.60)"),
        (40.0, "all", "  floor/ours 0.50"),
    ],
)
def test_a_step_is_told_beside_its_floor(milliseconds, cores, said):
    row = {
        "name": "four-layer relu, batch 128",
        "cores": cores,
        "gflop": 8.0,
        "milliseconds": {"ours": milliseconds},
    }
    rates = [
        {
            "name": floors.MATRIX_PRODUCT,
            "cores": cores,
            "gflop": 2.0,
            "milliseconds": {"ours": ms},
        }
        for cores, ms in (("core", 10.0), ("all", 5.0))
    ]
    report = {
        "dtype": "float32",
        "batch_size": 32,
        "devices": ["cpu"],
        "rows": [row, *rates],
    }
    assert floors.share_of_floor(report, row) == said
    assert floors.share_of_floor(report, rates[0]) == ""
    assert floors.rate_line(report)[0].endswith(
        "200 GFLOP/s on one core, 400 GFLOP/s on all"
    )
    assert (
        floors.share_of_floor({**report, "rows": [row]}, row) == ""
    )  # an older report
