"""Sizes that convolution and pooling leave, and the refusal where nothing is left."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_jax.errors import UserError
from alexnet_jax.model import layers


def test_pooled_sizes_are_those_of_the_paper():
    assert [layers.pooled_size(size, 3, 2, "up") for size in (55, 27, 13)] == [
        27,
        13,
        6,
    ]


def test_pooled_sizes_are_rounded_up():
    """cuda-convnet's 32 -> 16 -> 8 -> 4, where the usual rule gives 15, 7 and 3."""
    assert [layers.pooled_size(size, 3, 2, "up") for size in (32, 16, 8)] == [16, 8, 4]


def test_pooled_sizes_are_rounded_down_as_current_libraries_do():
    down = [layers.pooled_size(size, 3, 2, "down") for size in (55, 32, 16, 8, 4, 3)]
    assert down == [27, 15, 7, 3, 1, 1]


def test_a_window_that_does_not_fit_is_refused_where_sizes_are_rounded_down():
    window = {"window": 3, "stride": 2}
    assert layers.checked_pooled_size("pool2", 2, rounding="up", **window) == 1
    with pytest.raises(
        UserError,
        match=r"^pool2 .* 2 pixels a side and \(2 - 3\) / 2 \+ 1 < 1.*crop_size",
    ):
        layers.checked_pooled_size("pool2", 2, rounding="down", **window)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 12), st.integers(1, 12))
def test_pooling_windows_cover_every_pixel_and_none_starts_after_the_last(
    size, window, stride
):
    stride = min(stride, window)
    windows = layers.pooled_size(size, window, stride, "up")
    if size <= window - stride:  # a window before the first would hold all of it
        assert windows < 1
        return
    assert (windows - 1) * stride + window >= size
    assert (windows - 1) * stride < size
    # One fewer would leave pixels out.
    assert windows == 1 or (windows - 2) * stride + window < size


def test_convolved_sizes_are_those_of_the_paper():
    conv1 = {"window": 11, "stride": 4, "padding": (0, 3)}
    assert layers.convolved_size("conv1", 224, **conv1) == 55
    same = {"window": 3, "stride": 1, "padding": (1, 1)}
    assert layers.convolved_size("conv3", 13, **same) == 13


def test_a_convolution_without_pixels_is_refused_with_its_name_and_arithmetic():
    conv1 = {"window": 11, "stride": 4, "padding": (0, 3)}
    assert layers.convolved_size("conv1", 8, **conv1) == 1
    with pytest.raises(UserError) as caught:
        layers.convolved_size("conv1", 7, **conv1)
    message = str(caught.value)
    assert message.startswith("conv1 ")
    assert "7 pixels" in message
    assert "(7 + 0 + 3 - 11) / 4 + 1 < 1" in message
    assert "--config.data.crop_size" in message
