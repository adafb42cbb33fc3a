"""Layers as the libraries have them, by one operation each, differentiated by JAX."""

from jax import lax


def convolve(x, kernel, *, stride, padding, towers):
    """Convolves (n, h, w, c) with HWIO kernels: one group of channels for each tower."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=towers,
    )


def local_response_norm(x, *, depth, k, alpha, beta, towers):
    """Normalizes (n, h, w, c) as printed in section 3.3, each tower on its own."""
    by_tower = x.reshape(*x.shape[:3], towers, x.shape[3] // towers)
    padding = ((0, 0),) * 4 + ((depth // 2, (depth - 1) // 2),)
    energy = lax.reduce_window(
        by_tower * by_tower, 0.0, lax.add, (1, 1, 1, 1, depth), (1,) * 5, padding
    )
    return (by_tower * (k + alpha * energy) ** -beta).reshape(x.shape)
