"""What the benchmark times: this project's layers and step, the plain ones, PyTorch's.

`plain` is the same mathematics by the library's own operations: grouped convolution,
`reduce_window` to a power, `nnx.max_pool`. `benchmark.py` runs this module as a process
of its own, on cores chosen before JAX and PyTorch start their threads:

    python -m alexnet_jax.contenders WHAT BATCH_SIZE REPEATS DTYPE core|all

and reads one JSON object from its standard output.
"""

import dataclasses
import functools
import importlib.metadata
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Key

from alexnet_jax.config import base, finish
from alexnet_jax.model import layers
from alexnet_jax.model.layers import Images, Mapped, Padding
from alexnet_jax.model.network import Network, Params, build
from alexnet_jax.training import step as steps
from alexnet_jax.training.inputs import InputForm
from alexnet_jax.training.optimizer import Rates, update_rule
from alexnet_jax.training.parallel import Devices

NORM: dict[str, Any] = {"depth": 5, "k": 2.0, "alpha": 1e-4, "beta": 0.75}
NUMBERS = steps.Numbers(
    Rates(*[np.float32(0.001)] * 4),
    np.float32(0.9),
    np.float32(0.0005),
    np.uint32(0),
)
RULE = steps.Rule(rate_in_velocity=True, bias_decay=False)

Form = Callable[[], Any]  # does the work once and waits for it


@dataclasses.dataclass(frozen=True)
class Row:
    """The same work in up to three forms; bars are ratios of ours, by cores and form."""

    name: str
    forms: dict[str, Form]
    bars: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the rows are made for."""

    batch_size: int
    dtype: str  # float32, tf32 or bfloat16

    @property
    def array_dtype(self) -> Any:
        return jnp.bfloat16 if self.dtype == "bfloat16" else jnp.float32


# --- The library's forms ----------------------------------------------------------


def library_convolve(
    x: Images,
    kernel: Float[Array, "a b e d"],
    *,
    stride: int,
    padding: Padding,
    towers: int,
) -> Mapped:
    """One grouped convolution for all towers; e, the channels of one, are c / towers."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=towers,
    )


def library_norm(
    x: Images, *, depth: int, k: float, alpha: float, beta: float, towers: int
) -> Images:
    """Section 3.3 as it is printed, differentiated by JAX."""
    apart = x.reshape(*x.shape[:3], towers, x.shape[3] // towers)
    padding = ((0, 0),) * 4 + ((depth // 2, (depth - 1) // 2),)
    energy = lax.reduce_window(
        apart * apart, 0.0, lax.add, (1, 1, 1, 1, depth), (1,) * 5, padding
    )
    return (apart * (k + alpha * energy) ** -beta).reshape(x.shape)


def library_map_norm(
    x: Images, *, size: int, k: float, alpha: float, beta: float
) -> Images:
    """The 2012 code's second norm by one window over the map."""
    edges = ((0, 0), *((size // 2, (size - 1) // 2),) * 2, (0, 0))
    energy = lax.reduce_window(
        x * x, np.zeros((), x.dtype), lax.add, (1, size, size, 1), (1,) * 4, edges
    )
    return x * (k + alpha * energy) ** -beta


def library_max_pool(x: Images, *, window: int, stride: int) -> Mapped:
    """Rounded down; for AlexNet's sizes up and down agree."""
    return nnx.max_pool(x, (window, window), (stride, stride))


def library_apply(
    params: Params,
    images: Float[Array, "n h w 3"],
    dropout_keys: Key[Array, " n"] | None,
    *,
    towers: int,
) -> Float[Array, "n classes"]:
    """AlexNet with the paper's choices, of any width, from the library's forms."""

    def weights(name: str) -> tuple[jax.Array, jax.Array]:
        one = params[name]
        return one["kernel"].astype(images.dtype), one["bias"].astype(images.dtype)

    def convolved(x, name, pads, stride=1, towers=1):
        kernel, bias = weights(name)
        y = library_convolve(
            x, kernel, stride=stride, padding=(pads, pads), towers=towers
        )
        return jax.nn.relu(y + bias)

    def pooled(x):
        return library_max_pool(x, window=3, stride=2)

    def dense(x, name):
        kernel, bias = weights(name)
        return x @ kernel + bias

    x = convolved(images, "conv1", (0, 3), stride=4)
    x = pooled(library_norm(x, **NORM, towers=towers))
    x = convolved(x, "conv2", (2, 2), towers=towers)
    x = pooled(library_norm(x, **NORM, towers=towers))
    x = convolved(x, "conv3", (1, 1))
    x = convolved(x, "conv4", (1, 1), towers=towers)
    x = pooled(convolved(x, "conv5", (1, 1), towers=towers))
    x = x.reshape(len(x), -1)
    for layer in (6, 7):
        x = jax.nn.relu(dense(x, f"fc{layer}"))
        x = layers.dropout(x, rate=0.5, form="mask", keys=dropout_keys, layer=layer)
    return dense(x, "fc8")


# --- Layers, forward and backward -------------------------------------------------


def layer_rows(setting: Setting) -> Iterator[Row]:
    """The layers at AlexNet's own sizes."""
    bars = {"core": {"plain": 0.70, "torch": 0.30}}
    yield norm_row("normalization 55x55x96", (55, 96), setting, bars)
    yield norm_row("normalization 27x27x256", (27, 256), setting, bars)
    for side, channels, bar in ((55, 96, 0.25), (27, 256, 0.15), (13, 256, None)):
        bars = {"core": {"plain": bar}} if bar else {}
        name = f"max pool {side}x{side}x{channels}"
        yield pool_row(name, (side, channels), setting, bars)
    yield all_ties_row(setting)
    yield map_norm_row(setting)
    yield folded_row(setting)
    for name, side, inputs, outputs, window, stride, pads, towers in (
        ("conv1", 224, 3, 96, 11, 4, (0, 3), 1),
        ("conv2, two towers", 27, 96, 256, 5, 1, (2, 2), 2),
        ("conv3", 13, 256, 384, 3, 1, (1, 1), 1),
        ("conv4, two towers", 13, 384, 384, 3, 1, (1, 1), 2),
        ("conv5, two towers", 13, 384, 256, 3, 1, (1, 1), 2),
    ):
        layer = layers.Convolution(
            inputs,
            outputs,
            window=window,
            stride=stride,
            padding=(pads, pads),
            towers=towers,
            start=layers.Start(0.01, 0.0),
            key=jax.random.key(0),
        )
        x = draw(setting, setting.batch_size, side, side, inputs)
        yield convolution_row(name, layer, x, setting)


def draw(setting: Setting, *shape: int) -> jax.Array:
    """Grey levels as after a ReLU: half of them zero, so that maxima tie."""
    values = np.random.default_rng(0).standard_normal(shape, np.float32)
    return jnp.asarray(np.maximum(50 * values, 0), setting.array_dtype)


def norm_row(name: str, sizes: tuple[int, int], setting: Setting, bars: dict) -> Row:
    side, channels = sizes
    x = draw(setting, setting.batch_size, side, side, channels)
    forms = {
        "ours": both_ways(
            functools.partial(layers.local_response_norm, **NORM, towers=1), x
        ),
        "plain": both_ways(functools.partial(library_norm, **NORM, towers=1), x),
    }
    if torch := pytorch():
        # PyTorch divides alpha by the depth.
        norm = torch.nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        forms["torch"] = torch_both_ways(norm, x)
    return Row(name, forms, bars)


def pool_row(name: str, sizes: tuple[int, int], setting: Setting, bars: dict) -> Row:
    side, channels = sizes
    x = draw(setting, setting.batch_size, side, side, channels)

    def ours(x: Images) -> Mapped:
        return layers.max_pool(x, window=3, stride=2, rounding="up", ties="first")

    def plain(x: Images) -> Mapped:
        return library_max_pool(x, window=3, stride=2)

    forms = {
        "ours": both_ways(ours, x),
        "plain": both_ways(plain, x),
    }
    if torch := pytorch():
        forms["torch"] = torch_both_ways(torch.nn.MaxPool2d(3, 2), x)
    return Row(name, forms, bars)


def all_ties_row(setting: Setting) -> Row:
    """The 2012 code's gradient, which the library does not have: against its own."""
    x = draw(setting, setting.batch_size, 27, 27, 256)

    def ours(x: Images) -> Mapped:
        return layers.max_pool(x, window=3, stride=2, rounding="up", ties="all")

    plain = functools.partial(library_max_pool, window=3, stride=2)
    forms = {"ours": both_ways(ours, x), "plain": both_ways(plain, x)}
    return Row("max pool 27x27, all ties", forms)


def map_norm_row(setting: Setting) -> Row:
    x = draw(setting, setting.batch_size, 27, 27, 256)
    constants: dict[str, Any] = {"size": 5, "k": 1.0, "alpha": 4e-5, "beta": 0.75}
    forms_of_norm = {"ours": layers.map_norm, "plain": library_map_norm}
    forms = {
        form: both_ways(functools.partial(norm, **constants), x)
        for form, norm in forms_of_norm.items()
    }
    return Row("map norm 27x27x256", forms)


def folded_row(setting: Setting) -> Row:
    """conv1 with 48 channels of folded pixels, for matrix units: not used so far."""
    x = draw(setting, setting.batch_size, 224, 224, 3)
    kernel = jnp.asarray(np.random.default_rng(1).standard_normal((11, 11, 3, 96)))
    kernel = kernel.astype(setting.array_dtype)
    choices: dict[str, Any] = {"stride": 4, "padding": ((0, 3), (0, 3))}
    plain = functools.partial(library_convolve, x, **choices, towers=1)
    folded = functools.partial(layers.folded_convolve, x, **choices)
    forms = {"ours": both_ways(folded, kernel), "plain": both_ways(plain, kernel)}
    return Row("conv1, folded", forms)


def convolution_row(
    name: str, layer: layers.Convolution, x: jax.Array, setting: Setting
) -> Row:
    """Gradients for kernel, bias and, but for conv1, the images."""
    graph, state = nnx.split(layer)
    params = nnx.to_pure_dict(state)
    stride, padding, towers = layer.stride, layer.padding, layer.towers
    of_images = name != "conv1"

    def ours(params, x):
        return nnx.merge(graph, nnx.State(params))(x)

    def plain(params, x):
        kernel, bias = (params[part].astype(x.dtype) for part in ("kernel", "bias"))
        y = library_convolve(x, kernel, stride=stride, padding=padding, towers=towers)
        return y + bias

    forms = {
        form.__name__: both_ways(form, params, x)
        if of_images
        else both_ways(functools.partial(form, x=x), params)
        for form in (ours, plain)
    }
    if torch := pytorch():
        outputs = params["kernel"].shape[-1]
        (top, bottom), (left, right) = padding
        window = params["kernel"].shape[0]
        convolution = torch.nn.Sequential(
            torch.nn.ZeroPad2d((left, right, top, bottom)),
            torch.nn.Conv2d(x.shape[3], outputs, window, stride, groups=towers),
        )
        if top == left == bottom == right:
            convolution = torch.nn.Conv2d(
                x.shape[3], outputs, window, stride, top, groups=towers
            )
        forms["torch"] = torch_both_ways(convolution, x, of_images)
    return Row(name, forms)


def both_ways(function: Callable, *arguments: Any) -> Form:
    """The jitted function with all its gradients."""

    @jax.jit
    def run(gradient, *arguments):
        y, backward = jax.vjp(function, *arguments)
        return y, backward(gradient)

    gradient = jnp.ones_like(jax.eval_shape(function, *arguments))
    return lambda: jax.block_until_ready(run(gradient, *arguments))


def update_row() -> Row:
    """The update of all parameters: in their own memory, or into fresh."""
    of_two = network(2, Setting(1, "float32"))
    state = steps.initial_state(of_two, 0, RULE)

    def update(params, velocity, gradients):
        rule = update_rule(
            rates=NUMBERS.rates,
            momentum=0.9,
            weight_decay=0.0005,
            **dataclasses.asdict(RULE),
        )
        updates, velocity = rule.update(gradients, velocity, params)
        return optax.apply_updates(params, updates), velocity

    gradients = jax.tree.map(jnp.ones_like, state.params)
    fresh = jax.jit(update)
    in_place = jax.jit(update, donate_argnums=(0, 1))
    own = [jax.tree.map(jnp.copy, (state.params, state.velocity))]

    def donated() -> None:
        own.append(in_place(*own.pop(), gradients))
        jax.block_until_ready(own)

    def undonated() -> None:
        jax.block_until_ready(fresh(state.params, state.velocity, gradients))

    bars = {"core": {"plain": 0.5}}
    forms: dict[str, Form] = {"ours": donated, "plain": undonated}
    return Row("update, donated or not", forms, bars)


# --- Steps ------------------------------------------------------------------------


def step_rows(setting: Setting) -> Iterator[Row]:
    """The whole train step on made-up images, and its update by itself."""
    two = {"core": {"plain": 0.25, "torch": 0.80}, "all": {"plain": 0.25, "torch": 1.0}}
    one = {"core": {"plain": 0.70, "torch": 0.95}}
    for name, towers, bars in (("two-tower step", 2, two), ("one-tower step", 1, one)):
        ours = network(towers, setting)
        plain = dataclasses.replace(ours, apply=plain_apply(towers, setting))
        forms: dict[str, Form] = {
            "ours": train_form(ours, setting),
            "plain": train_form(plain, setting),
        }
        loss, expected = (float(forms[form]()) for form in ("ours", "plain"))
        tolerance = 0.02 if setting.dtype == "bfloat16" else 1e-4
        if abs(loss - expected) > tolerance * expected:
            raise ValueError(f"{name}: loss {loss}, plain {expected}.")
        if pytorch():
            forms["torch"] = torch_train_form(towers, setting)
        yield Row(name, forms, bars)
        del forms  # before the next take as much memory
    yield update_row()


def model(towers: int, setting: Setting) -> dict[str, Any]:
    """The paper's recipe, padded and normalized by tower as the 2012 code did."""
    config = base()
    config.recipe = "paper"
    return finish(config, {}).model.to_dict() | {
        "towers": towers,
        "conv1_padding": "after",
        "norm_across_towers": False,
        "dtype": setting.array_dtype.__name__,
    }


def network(towers: int, setting: Setting) -> Network:
    return build(model(towers, setting), image_size=224, num_classes=1000)


def plain_apply(towers: int, setting: Setting) -> Callable:
    def apply(params, images, keys):
        images = images.astype(setting.array_dtype)
        logits = library_apply(params, images, keys, towers=towers)
        return logits.astype(jnp.float32)

    return apply


def made_up_batch(batch_size: int) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(0)
    return {
        "image": draws.integers(0, 256, (batch_size, 224, 224, 3)).astype(np.uint8),
        "label": draws.integers(0, 1000, batch_size).astype(np.int32),
        "offset": np.zeros((batch_size, 2), np.int32),
        "mirrored": np.zeros(batch_size, np.int32),
        "lighting": draws.standard_normal((batch_size, 3)).astype(np.float32),
        "gain": np.ones(batch_size, np.float32),
        "example": np.arange(batch_size, dtype=np.int32),
        "epoch": np.zeros(batch_size, np.int32),
    }


def train_form(network: Network, setting: Setting) -> Form:
    """This project's own step, spread and donated as in training; gives the loss."""
    devices = Devices()
    devices.check_batch_size(setting.batch_size)
    form = InputForm.of({**finish(base(), {}).data})
    train_step = devices.spread_train(steps.make_train_step(network, form, RULE))
    states = [devices.place_state(steps.initial_state(network, 0, RULE))]
    batch = devices.place_batch(made_up_batch(setting.batch_size))
    mean_image = devices.place_state(np.full((224, 224, 3), 127.5, np.float32))

    def run() -> jax.Array:
        state, counts = train_step(states.pop(), batch, NUMBERS, mean_image)
        states.append(state)
        return jax.block_until_ready((counts.loss, state))[0]

    return run


# --- PyTorch, eager, where it is installed ----------------------------------------


@functools.cache
def pytorch() -> Any:
    """The module, or None: if it is missing, or cannot use the GPU that JAX uses."""
    try:
        import torch
    except ImportError:
        return None
    if jax.default_backend() == "gpu" and not torch.cuda.is_available():
        return None
    if hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    return torch


def torch_device() -> str:
    return "cuda" if jax.default_backend() == "gpu" else "cpu"


def wait_for_torch() -> None:
    if torch_device() == "cuda":
        pytorch().cuda.synchronize()


def torch_both_ways(module: Any, x: jax.Array, of_images: bool = True) -> Form:
    torch = pytorch()
    lower = x.dtype == jnp.bfloat16
    images = torch.from_numpy(np.array(x, np.float32).transpose(0, 3, 1, 2).copy())
    images = images.to(torch_device(), torch.bfloat16 if lower else torch.float32)
    images.requires_grad_(of_images)
    module = module.to(torch_device())

    def forward() -> Any:
        with torch.autocast(torch_device(), torch.bfloat16, enabled=lower):
            return module(images)

    gradient = torch.ones_like(forward())

    def run() -> None:
        images.grad = None
        module.zero_grad()
        forward().backward(gradient)
        wait_for_torch()

    return run


def torch_train_form(towers: int, setting: Setting) -> Form:
    torch = pytorch()
    device = torch_device()
    network = torch_alexnet(towers).to(device)
    weights, biases = (
        [p for p in network.parameters() if (p.dim() > 1) == wanted]
        for wanted in (True, False)
    )
    optimizer = torch.optim.SGD(
        [{"params": weights, "weight_decay": 0.0005}, {"params": biases}],
        lr=0.001,
        momentum=0.9,
    )
    batch = {
        name: torch.from_numpy(values).to(device)
        for name, values in made_up_batch(setting.batch_size).items()
    }
    mean_image = torch.full((224, 224, 3), 127.5, device=device)

    def run() -> None:
        optimizer.zero_grad()
        images = batch["image"].float() - mean_image + batch["lighting"][:, None, None]
        images = images.permute(0, 3, 1, 2).contiguous()
        lower = setting.dtype == "bfloat16"
        with torch.autocast(device, torch.bfloat16, enabled=lower):
            logits = network(images)
        labels = batch["label"].long()
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        wait_for_torch()

    return run


def torch_alexnet(towers: int) -> Any:
    """The same layers and widths; PyTorch's normalization knows no towers."""
    nn = pytorch().nn

    def convolution(inputs, outputs, window, pads, groups):
        layer = nn.Conv2d(inputs, outputs, window, padding=pads, groups=groups)
        return layer, nn.ReLU(inplace=True)

    def normalized_and_pooled():
        norm = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
        return norm, nn.MaxPool2d(3, 2)

    def dense(inputs, outputs):
        return nn.Linear(inputs, outputs), nn.ReLU(inplace=True), nn.Dropout(0.5)

    return nn.Sequential(
        nn.ZeroPad2d((0, 3, 0, 3)),
        nn.Conv2d(3, 96, 11, stride=4),
        nn.ReLU(inplace=True),
        *normalized_and_pooled(),
        *convolution(96, 256, 5, 2, towers),
        *normalized_and_pooled(),
        *convolution(256, 384, 3, 1, 1),
        *convolution(384, 384, 3, 1, towers),
        *convolution(384, 256, 3, 1, towers),
        nn.MaxPool2d(3, 2),
        nn.Flatten(),
        *dense(9216, 4096),
        *dense(4096, 4096),
        nn.Linear(4096, 1000),
    )


# --- The process ------------------------------------------------------------------


def timed(row: Row, repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median milliseconds of each form; they take turns, so that noise hits all."""
    seconds: dict[str, list[float]] = {form: [] for form in row.forms}
    for run in row.forms.values():
        run()  # compiles
    for _ in range(repeats):
        for form, run in row.forms.items():
            start = clock()
            run()
            seconds[form].append(clock() - start)
    return {form: 1000 * statistics.median(times) for form, times in seconds.items()}


def set_precision(dtype: str) -> None:
    """XLA would use tf32 on a GPU without being told to."""
    precision = {"tf32": "tensorfloat32", "float32": "float32", "bfloat16": None}[dtype]
    jax.config.update("jax_default_matmul_precision", precision)


def main() -> None:
    what, batch_size, repeats, dtype, cores = sys.argv[1:]
    setting = Setting(int(batch_size), dtype)
    set_precision(dtype)
    if torch := pytorch():
        torch.manual_seed(0)
        torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
        torch.backends.cudnn.allow_tf32 = dtype == "tf32"
    clock = time.process_time if cores == "core" else time.perf_counter
    rows = {"layers": layer_rows, "step": step_rows}[what](setting)
    results = []
    for row in rows:
        results.append(
            {
                "name": row.name,
                "milliseconds": timed(row, int(repeats), clock),
                "bars": row.bars.get(cores, {}),
            }
        )
        row.forms.clear()
    names = ("jax", "jaxlib", "flax", "optax") + (("torch",) if torch else ())
    report = {
        "platform": jax.default_backend(),
        "devices": [device.device_kind for device in jax.local_devices()],
        "versions": {name: importlib.metadata.version(name) for name in names},
        "rows": results,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
