"""AlexNet's layers and train steps in PyTorch, where it is installed."""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import Implementation


@functools.cache
def pytorch() -> Any:
    """Returns the module, or None if it is missing or cannot use the GPU that JAX uses."""
    try:
        import torch  # An optional package.
    except ImportError:
        return None
    if jax.default_backend() == "gpu" and not torch.cuda.is_available():
        return None
    if hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    return torch


def packages() -> tuple[str, ...]:
    """Returns the distributions that take part in the benchmark: torch or none."""
    return ("torch",) if pytorch() else ()


def set_up(dtype: str) -> None:
    """Seeds PyTorch, and lets its float32 products use tf32 if that is the dtype.

    All compiled networks of a process count as recompilations of one function: beyond the
    limit they would be timed as they are without a compiler.
    """
    if torch := pytorch():
        torch._dynamo.config.recompile_limit = 1000
        torch.manual_seed(0)
        torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
        torch.backends.cudnn.allow_tf32 = dtype == "tf32"


def torch_device() -> str:
    return "cuda" if jax.default_backend() == "gpu" else "cpu"


def wait_for_torch() -> None:
    if torch_device() == "cuda":
        pytorch().cuda.synchronize()


def layer_forms(
    make_module: Callable[[Any], Any], x: jax.Array, input_gradient: bool = True
) -> dict[str, Implementation]:
    """Returns a module's forward and backward pass by memory format; empty without PyTorch.

    Args:
      make_module: makes it, given `torch.nn`.
      x: its input, (n, h, w, c).
      input_gradient: whether the gradient for `x` is computed too.
    """
    if not (torch := pytorch()):
        return {}
    return {
        f"torch {name}": _with_gradients(make_module(torch.nn), x, input_gradient, name)
        for name in _layouts()
    }


def _with_gradients(
    module: Any, x: jax.Array, input_gradient: bool, memory_format: str
) -> Implementation:
    torch = pytorch()
    layout = _layouts()[memory_format]
    is_bfloat16 = x.dtype == jnp.bfloat16
    images = torch.from_numpy(np.array(x, np.float32).transpose(0, 3, 1, 2).copy())
    images = images.to(torch_device(), torch.bfloat16 if is_bfloat16 else torch.float32)
    images = images.contiguous(memory_format=layout).requires_grad_(input_gradient)
    module = module.to(torch_device(), memory_format=layout)

    def forward() -> Any:
        with torch.autocast(torch_device(), torch.bfloat16, enabled=is_bfloat16):
            return module(images)

    gradient = torch.ones_like(forward())

    def run() -> None:
        images.grad = None
        module.zero_grad()
        forward().backward(gradient)
        wait_for_torch()

    return run


def _layouts() -> dict[str, Any]:
    torch = pytorch()
    return {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}


def convolution(
    channels: tuple[int, int],
    window: int,
    stride: int,
    padding: tuple[tuple[int, int], tuple[int, int]],
    groups: int,
) -> Any:
    """Returns a convolution from and to so many channels; padding may be asymmetric."""
    nn = pytorch().nn
    (top, bottom), (left, right) = padding
    if top == left == bottom == right:
        return nn.Conv2d(*channels, window, stride, top, groups=groups)
    return nn.Sequential(
        nn.ZeroPad2d((left, right, top, bottom)),
        nn.Conv2d(*channels, window, stride, groups=groups),
    )


def train_steps(
    make_network: Callable[[], Any],
    batch: dict[str, np.ndarray],
    dtype: str,
    optimizer: str = "sgd",
) -> dict[str, Implementation]:
    """Returns a train step on one batch, by form; empty without PyTorch.

    Forms: the images' memory format, NCHW or channels_last, and each also compiled, where
    `torch.compile` has its compiler.

    Args:
      make_network: makes the network.
      batch: a training batch: uint8 images (n, h, w, 3), labels, and color offsets.
      dtype: float32, tf32 or bfloat16.
      optimizer: "sgd" with momentum, or "adamw".
    """
    if not pytorch():
        return {}
    found = {}
    for memory_format in _layouts():
        step = _train_step(make_network(), batch, dtype, memory_format, optimizer)
        found[f"torch {memory_format}"] = step
        if can_compile():
            network = pytorch().compile(make_network())
            step = _train_step(network, batch, dtype, memory_format, optimizer)
            found[f"torch {memory_format} compiled"] = step
    return found


@functools.cache
def can_compile() -> bool:
    """Whether `torch.compile` works here: on CPUs it needs a C++ compiler."""
    torch = pytorch()
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(2, device=torch_device()))
    except Exception:  # PyTorch raises whatever its compilers raise.
        return False
    return True


def _train_step(
    network: Any,
    batch: dict[str, np.ndarray],
    dtype: str,
    memory_format: str,
    optimizer_name: str,
) -> Implementation:
    """A train step on one batch, with the images' preprocessing."""
    torch = pytorch()
    device = torch_device()
    layout = _layouts()[memory_format]
    network = network.to(device=device, memory_format=layout)
    weights, biases = (
        [p for p in network.parameters() if (p.dim() > 1) == is_weight]
        for is_weight in (True, False)
    )
    groups = [
        {"params": weights, "weight_decay": 0.0005},
        {"params": biases, "weight_decay": 0.0},
    ]
    optimizer = (
        torch.optim.AdamW(groups, lr=0.001, fused=True)
        if optimizer_name == "adamw"
        else torch.optim.SGD(groups, lr=0.001, momentum=0.9, fused=True)
    )
    placed = {
        name: torch.from_numpy(values).to(device) for name, values in batch.items()
    }
    mean_image = torch.full(batch["image"].shape[1:], 127.5, device=device)

    def run() -> None:
        optimizer.zero_grad()
        images = placed["image"].float() - mean_image
        images = images + placed["lighting"][:, None, None]
        images = images.permute(0, 3, 1, 2).contiguous(memory_format=layout)
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = network(images)
        labels = placed["label"].long()
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        wait_for_torch()

    return run


def alexnet(towers: int, *, batch_norm: bool = False) -> Any:
    """Returns the paper's network; PyTorch's normalization ignores the towers.

    Args:
      towers: one or two.
      batch_norm: whether each layer but the last is normalized by batch, before its
        activation, in place of local response normalization.
    """
    nn = pytorch().nn

    def activated(norm, outputs):
        return *((norm(outputs),) if batch_norm else ()), nn.ReLU(inplace=True)

    def convolved(inputs, outputs, window, pads, groups):
        layer = nn.Conv2d(inputs, outputs, window, padding=pads, groups=groups)
        return layer, *activated(nn.BatchNorm2d, outputs)

    def normalized_and_pooled():
        norm = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        return *(() if batch_norm else (norm,)), nn.MaxPool2d(3, 2)

    def dense(inputs, outputs):
        layer = nn.Linear(inputs, outputs)
        return layer, *activated(nn.BatchNorm1d, outputs), nn.Dropout(0.5)

    return nn.Sequential(
        nn.ZeroPad2d((0, 3, 0, 3)),
        nn.Conv2d(3, 96, 11, stride=4),
        *activated(nn.BatchNorm2d, 96),
        *normalized_and_pooled(),
        *convolved(96, 256, 5, 2, towers),
        *normalized_and_pooled(),
        *convolved(256, 384, 3, 1, 1),
        *convolved(384, 384, 3, 1, towers),
        *convolved(384, 256, 3, 1, towers),
        nn.MaxPool2d(3, 2),
        nn.Flatten(),
        *dense(9216, 4096),
        *dense(4096, 4096),
        nn.Linear(4096, 1000),
    )


def four_layer(activation: str) -> Any:
    """Returns the network of Figure 1 for images of 32 x 32 pixels in ten classes."""
    nn = pytorch().nn

    def activate():
        return {"relu": nn.ReLU, "tanh": nn.Tanh}[activation]()

    def average():
        return nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False)

    return nn.Sequential(
        nn.Conv2d(3, 32, 5, padding=2),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        activate(),
        nn.Conv2d(32, 32, 5, padding=2),
        activate(),
        average(),
        nn.Conv2d(32, 64, 5, padding=2),
        activate(),
        average(),
        nn.Flatten(),
        nn.Linear(1024, 10),
    )
