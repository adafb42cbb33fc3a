"""What a run's networks have learned, for the notebooks of `experiments/`.

Everything is read from the run folder: its records, and the last checkpoints of the trials
of seed 0, each arm at the tuned values that served it best.
"""

import dataclasses
import functools
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from alexnet_jax import config as configuration
from alexnet_jax.config import Trial
from alexnet_jax.data import pipeline, source
from alexnet_jax.errors import UserError
from alexnet_jax.fields import FIELDS
from alexnet_jax.model.network import Params
from alexnet_jax.report import claims, overview, page, verdict, words
from alexnet_jax.report.figures import COLORS
from alexnet_jax.report.records import read_experiment, read_outcomes
from alexnet_jax.training.checkpoint import weights
from alexnet_jax.training.inputs import InputForm, view_input, views
from alexnet_jax.training.loop import Trainer
from alexnet_jax.training.parallel import Devices

ROOT = Path(__file__).parent.parent
BATCH = 128
SATURATED = 0.95  # of tanh, whose slope is below a tenth there


def run_of(name: str, folder: str | Path = "") -> "Run":
    """The run `folder`, or that of $ALEXNET_RUN; if neither is given, one on digits.

    That is made by the ordinary command if it is not there, in minutes, with a checkpoint
    at each trial's end.
    """
    given = str(folder) or os.environ.get("ALEXNET_RUN", "")
    path = _place(given) if given else ROOT / "runs" / f"{name}-digits"
    if not given:
        command = [sys.executable, "-m", "alexnet_jax.main", f"--workdir={path}"]
        command += [f"--config={ROOT / 'configs' / name}.py"]
        subprocess.run(
            [*command, "--config.training.checkpoint_every_epochs=1000"],
            cwd=ROOT,
            check=True,
        )
    return Run(path)


def _place(given: str) -> Path:
    """A folder as it was typed beside the README: a notebook's own is another one."""
    path = Path(given).expanduser()
    return path if path.is_absolute() or path.exists() else ROOT / path


class Run:
    """A run folder, opened.

    Raises:
      UserError: if it is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.experiment = read_experiment(folder)
        self.config = _as_config(self.experiment["config"])
        self.outcomes = read_outcomes(folder, self.experiment["config"])
        self.summary = verdict.summarize(self.experiment, self.outcomes)
        self.network = functools.cache(self._network)

    def answer(self) -> str:
        """The verdict and the tables, in Markdown."""
        tables = [page.markdown(table) for table in page.tables(self.summary)]
        return "\n\n".join([f"**{self.summary['verdict']}**", *tables])

    def figure(self) -> Path:
        """The learning curves, as the run's report has them."""
        page.write(self.folder)
        return self.folder / "figure.png"

    def arms(self) -> list[str]:
        """Those whose networks are their own: the others share another's."""
        arms = self.config.arms
        return [
            arm for arm in arms if configuration.trained_as(self.config, arm) == arm
        ]

    def _network(self, arm: str) -> tuple[ConfigDict, Trainer, Params, pipeline.Data]:
        trial = Trial(arm, self.summary["arms"][arm]["tuned"], 0)
        config = configuration.trial_config(self.config, trial)
        data = _data(
            config.data.dataset,
            config.data.tfds_dir,
            config.data.rescale,
            config.data.rescale_size,
        )
        trainer = Trainer.of(config, data, Devices())
        params, _ = weights(self.folder / trial.folder, last=True)
        return config, trainer, params, data

    def kernels(self, arm: str) -> np.ndarray:
        """Those of conv1, (kernels, height, width, 3), each from 0 to 1."""
        kernel = np.asarray(self.network(arm)[2]["conv1"]["kernel"])
        found = np.moveaxis(kernel, -1, 0)
        low, high = (f(found, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
        return (found - low) / np.maximum(high - low, 1e-12)

    def batches(self, arm: str) -> Iterator[tuple[dict[str, jax.Array], np.ndarray]]:
        """Outputs of every layer for the central views of the test images, and labels."""
        _, trainer, params, data = self.network(arm)
        mean = trainer.place_mean(data, Devices())
        outputs: Callable[..., Any] = jax.jit(trainer.network.outputs)
        for batch in pipeline.evaluation_batches(data.validation, batch_size=BATCH):
            images = jnp.asarray(batch["image"])
            place = _central_view(images.shape[1], trainer.form)
            found = outputs(params, view_input(images, place, mean, trainer.form), None)
            real = batch["weight"] > 0
            yield {name: x[real] for name, x in found.items()}, batch["label"][real]

    def units(self, arm: str) -> dict[str, float]:
        """By layer: with ReLU, the share of dead units, never above zero on a test image;
        with tanh, the share of outputs that are saturated, beyond 0.95 of either sign.

        A unit of a convolution is a map: dead if it is so in every place.
        """
        relu = self.network(arm)[0].model.activation == "relu"
        shares: dict[str, list[np.ndarray]] = {}
        for outputs, _ in self.batches(arm):
            *hidden, _ = outputs
            for layer in hidden:
                x = outputs[layer]
                x = x.reshape(x.shape[0], -1, x.shape[-1])
                part = (
                    (x > 0).any((0, 1)) if relu else (abs(x) > SATURATED).mean((0, 1))
                )
                shares.setdefault(layer, []).append(np.asarray(part))
        if relu:
            return {n: float(1 - np.any(p, axis=0).mean()) for n, p in shares.items()}
        return {name: float(np.mean(parts)) for name, parts in shares.items()}

    def errors_by_class(self, arm: str) -> dict[str, float]:
        """The share of each class's test images that is given another class."""
        names = self.network(arm)[3].source.class_names
        wrong, count = np.zeros(len(names)), np.zeros(len(names))
        for outputs, labels in self.batches(arm):
            logits = np.asarray(list(outputs.values())[-1])
            np.add.at(wrong, labels, logits.argmax(axis=1) != labels)
            np.add.at(count, labels, 1)
        shares = wrong / np.maximum(count, 1)
        return dict(zip(map(str, names), shares.tolist(), strict=True))

    def draw_kernels(self, most: int = 24) -> "Drawing":
        """Kernels of conv1 of every arm, a row each.

        Of more than `most` every so many, so that both towers are drawn, the first from the
        left.
        """
        arms = self.arms()
        figure = Drawing(figsize=(8, 0.9 * len(arms) + 0.2))
        axes = figure.subplots(len(arms), 1, squeeze=False)
        for axis, arm in zip(axes[:, 0], arms, strict=True):
            some = self.kernels(arm)
            if len(some) > most:
                some = some[np.arange(most) * len(some) // most]
            some = np.pad(some, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1.0)
            axis.imshow(np.concatenate(list(some), axis=1))
            axis.set_title(arm, fontsize=8, loc="left", pad=2)
            axis.axis("off")
        figure.tight_layout(pad=0.3)
        return figure

    def draw_classes(self) -> "Drawing":
        """Errors by class, the arms side by side; of many classes the ten that differ."""
        found = {arm: self.errors_by_class(arm) for arm in self.arms()}
        values = np.array([list(errors.values()) for errors in found.values()])
        chosen = np.sort(np.argsort(np.ptp(values, axis=0))[::-1][:10])
        names = [list(next(iter(found.values())))[number] for number in chosen]
        figure = Drawing(figsize=(8, 2.6), layout="constrained")
        axis = figure.subplots()
        width = 0.8 / len(found)
        for number, arm in enumerate(found):
            axis.bar(
                np.arange(len(names)) + number * width,
                100 * values[number, chosen],
                width,
                label=arm,
                color=COLORS[number % len(COLORS)],
            )
        axis.set_xticks(np.arange(len(names)) + 0.4 - width / 2, names, fontsize=8)
        axis.set(ylabel="top-1 error, %")
        axis.legend(fontsize=7, frameon=False, ncols=2)
        return figure

    def draw_beside_paper(self) -> "Drawing":
        """What was measured with its intervals, and where the paper has it."""
        return draw_beside_paper(self.summary)

    def units_table(self) -> str:
        """`units` of every arm, in Markdown."""
        rows = {arm: self.units(arm) for arm in self.arms()}
        layers = list(dict.fromkeys(name for found in rows.values() for name in found))
        head = ["arm", "what", *layers]
        what = {"relu": "dead units", "tanh": "saturated outputs"}
        body = [
            [arm, what[self.network(arm)[0].model.activation]]
            + [f"{found[n]:.0%}" if n in found else "-" for n in layers]
            for arm, found in rows.items()
        ]
        return page.markdown([head, *body])


def summaries(folder: str | Path = "") -> list[dict[str, Any]]:
    """Those of the run folders in `folder`, or in $ALEXNET_RUNS; else, those committed.

    Raises:
      UserError: if there is none.
    """
    given = str(folder) or os.environ.get("ALEXNET_RUNS", "")
    path = _place(given) if given else ROOT / "experiments"
    found = sorted([*path.glob("*/summary.json"), *path.glob("*/*/summary.json")])
    if not found:
        raise UserError(
            f"{path} has no summary.json in its folders: give a folder of run folders, "
            "each with its answer."
        )
    return [json.loads(each.read_text()) for each in found]


def all_claims(found: list[dict[str, Any]]) -> str:
    """The paper's claims beside what was measured, in Markdown."""
    return page.markdown(overview.table(found))


def draw_beside_paper(summary: dict[str, Any]) -> "Drawing":
    """What was measured with its intervals, and where the paper has it."""
    answers = claims.answers(summary)
    rows = [max(1, len(answer["comparisons"])) for answer in answers]
    height = sum(0.9 + 0.35 * count for count in rows)
    figure = Drawing(figsize=(8, height), layout="constrained")
    axes = figure.subplots(len(answers), height_ratios=rows, squeeze=False)[:, 0]
    for axis, answer in zip(axes, answers, strict=True):
        _draw_answer(axis, answer)
    labelled: dict[str, Any] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        labelled |= zip(labels, handles, strict=True)
    figure.legend(
        labelled.values(), labelled, fontsize=7, frameon=False, loc="outside right"
    )
    dataset, other = summary["dataset"], summary["claim"]["dataset"]
    on = (
        dataset
        if words.same_dataset(dataset, other)
        else f"{dataset} (the paper: {other})"
    )
    figure.suptitle(f"{summary['experiment']} on {on}", fontsize=9)
    return figure


def _draw_answer(axis: Axes, answer: dict[str, Any]) -> None:
    """A claim's comparisons, a row each; above them what the paper says in words only."""
    claim, found = answer["claim"], answer["comparisons"]
    ratio = claims.is_ratio(claim)
    scale, none = (1.0, 1.0) if ratio else (100.0, 0.0)
    for row, each in enumerate(found):
        if each["mean"] is None:  # some never got there: at best a bound
            text = words.show_comparison(each, claim)
            axis.annotate(text, (none, row), va="center", fontsize=8)
            continue
        ends = (each["low"], each["high"])
        if None not in ends:
            axis.plot([scale * end for end in ends], [row, row], color=COLORS[0])
        axis.plot(scale * each["mean"], row, "o", color=COLORS[0], label="here")
    paper = claim["paper"]
    if isinstance(paper, (int, float)):
        axis.axvline(scale * paper, color=COLORS[1], ls="--", label="the paper")
    axis.axvline(none, color="0.5", lw=0.8)
    if ratio:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("{x:g}")
    names = [words.show_pair(each, claim) for each in found]
    axis.set_yticks(range(len(found)), names, fontsize=8)
    axis.set_ylim(len(found) - 0.5, -0.5)
    unit = "ratio" if ratio else "difference in points"
    axis.set_xlabel(f"{claims.describe_metric(claim)}, {unit}", fontsize=8)
    axis.tick_params(axis="x", which="both", labelsize=8)
    if not isinstance(paper, (int, float)):
        axis.set_title(words.show_paper(claim), fontsize=8)


class Drawing(Figure):
    """A figure that a notebook shows where a cell ends in it, with any backend."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png", dpi=80)
        return picture.getvalue()


@functools.cache
def _data(name: str, tfds_dir: str, rescale: str, size: int) -> pipeline.Data:
    opened = source.open_source(name, tfds_dir=tfds_dir)
    return pipeline.prepare(opened, rescale=rescale, rescale_size=size)


def _central_view(side: int, form: InputForm) -> np.ndarray:
    """Its place, however many views the run averages."""
    return views(side, dataclasses.replace(form, views="center"))[0]


def _as_config(held: dict[str, Any]) -> ConfigDict:
    """The config of an experiment.json; fields that it does not know, at their defaults."""
    config = ConfigDict(
        {
            key: ConfigDict({k: _tupled(v) for k, v in value.items()})
            if key in ("model", "data", "optimizer", "training")
            else value
            for key, value in held.items()
        },
        convert_dict=False,
    )
    for name, field in FIELDS.items():
        try:
            configuration.get_field(config, name)
        except KeyError:
            configuration.set_field(config, name, field.default)
    return config.lock()


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
