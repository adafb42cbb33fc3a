"""Inspects what the networks of a run have learned, for the notebooks of `experiments/`.

Everything is read from the run folder: its records, and the last checkpoints of the trials
of seed 0, each arm at its selected tuned values.
"""

import functools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.errors import UserError
from alexnet_jax.experiment.datasets import open_originals
from alexnet_jax.report import page, tables
from alexnet_jax.report.comparison_figure import draw_beside_paper
from alexnet_jax.report.drawing import COLORS, Drawing
from alexnet_jax.report.run_reader import Outcome, read_run
from alexnet_jax.report.summary import read_summary, summarize
from alexnet_jax.trained.inspection import Inspection
from alexnet_jax.trained.locate import load

ROOT = Path(__file__).parents[2]


def open_run(name: str, folder: str | Path = "") -> "RunAnalysis":
    """Opens the run in `folder`, or in $ALEXNET_RUN, or else one on digits.

    The run on digits is made by the ordinary command if it does not exist, which takes
    minutes, with a checkpoint at the end of each trial.

    Args:
      name: of a file in `configs/`.
      folder: of a run; relative to the working directory or to the repository's root.

    Raises:
      UserError: if the folder is not a run folder, or that of another experiment.
    """
    given = str(folder) or os.environ.get("ALEXNET_RUN", "")
    path = _resolve(given) if given else ROOT / "runs" / f"{name}-digits"
    if not given:
        command = [sys.executable, "-m", "alexnet_jax.main", f"--workdir={path}"]
        command += [f"--config={ROOT / 'configs' / name}.py"]
        subprocess.run(
            [*command, "--config.training.checkpoint_every_epochs=1000"],
            cwd=ROOT,
            check=True,
        )
    analysis = RunAnalysis(path)
    if analysis.run.name != name:
        raise UserError(
            f"{path} holds the experiment '{analysis.run.name}', and this notebook is about "
            f"'{name}'. Name a run of '{name}' in ALEXNET_RUN, or open "
            f"experiments/{analysis.run.name}/{analysis.run.name}.ipynb."
        )
    return analysis


def _resolve(given: str) -> Path:
    """A path relative to the working directory or, as the README has it, to the root.

    A notebook's working directory is its own folder.
    """
    path = Path(given).expanduser()
    return path if path.is_absolute() or path.exists() else ROOT / path


class RunAnalysis:
    """A run folder, its answer, and its trained networks.

    Raises:
      UserError: if the folder is not a run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.run = read_run(folder)
        self.summary = summarize(self.run)
        self.network = functools.cache(self._network)

    def answer(self) -> str:
        """The verdict and the tables, in Markdown."""
        shown = [tables.markdown(table) for table in tables.tables(self.summary)]
        return "\n\n".join([f"**{self.summary['verdict']}**", *shown])

    def figure(self) -> Path:
        """Writes the report of the run, and returns the path of its learning curves."""
        page.write(self.run.folder)
        return self.run.folder / "figure.png"

    def arms(self) -> list[str]:
        """The arms with networks of their own; the others share those of another arm."""
        return [arm for arm in self.run.arms if self.run.trained_as[arm] == arm]

    def _selected(self, arm: str) -> Outcome:
        """The trial of seed 0 at the selected tuned values of an arm."""
        tuned = self.summary["arms"][arm]["tuned"]
        own = [one for one in self.run.outcomes if one.trial.arm == arm]
        return next(o for o in own if o.trial.tuned == tuned and o.trial.seed == 0)

    def _network(self, arm: str) -> Inspection:
        trial = self._selected(arm).trial
        network = load(f"{self.run.folder / trial.records_folder}@last")
        return Inspection(network, open_originals(trial.settings.data))

    def draw_kernels(self, maximum: int = 24) -> "Drawing":
        """Kernels of conv1, a row for each arm.

        Of more than `maximum`, those at equal distances are drawn, so that both towers
        appear, the first one on the left.
        """
        arms = self.arms()
        figure = Drawing(figsize=(8, 0.9 * len(arms) + 0.2))
        axes = figure.subplots(len(arms), 1, squeeze=False)
        for axis, arm in zip(axes[:, 0], arms, strict=True):
            shown = self.network(arm).kernels()
            if len(shown) > maximum:
                shown = shown[np.arange(maximum) * len(shown) // maximum]
            border = ((0, 0), (1, 1), (1, 1), (0, 0))
            shown = np.pad(shown, border, constant_values=1.0)
            axis.imshow(np.concatenate(list(shown), axis=1))
            axis.set_title(arm, fontsize=8, loc="left", pad=2)
            axis.axis("off")
        figure.tight_layout(pad=0.3)
        return figure

    def draw_classes(self) -> "Drawing":
        """Errors by class, the arms side by side; the ten classes that differ the most."""
        found = {arm: self.network(arm).errors_by_class() for arm in self.arms()}
        values = np.array([list(errors.values()) for errors in found.values()])
        chosen = np.sort(np.argsort(np.ptp(values, axis=0))[::-1][:10])
        names = [list(next(iter(found.values())))[number] for number in chosen]
        return draw_classes(list(found), names, 100 * values[:, chosen])

    def draw_beside_paper(self) -> "Drawing":
        """The comparisons with their intervals, and the paper's numbers."""
        return draw_beside_paper(self.summary)

    def units_table(self) -> str:
        """The dead or saturated units of every arm, in Markdown."""
        found = {arm: self.network(arm).units() for arm in self.arms()}
        layers = list(
            dict.fromkeys(name for shares in found.values() for name in shares)
        )
        counted = {"relu": "dead units", "tanh": "saturated outputs"}
        rows = [["arm", "fraction of", *layers]]
        for arm, shares in found.items():
            cells = [f"{shares[n]:.0%}" if n in shares else "-" for n in layers]
            activation = self.network(arm).network.settings.model.activation
            rows.append([arm, counted.get(activation, "-"), *cells])
        return tables.markdown(rows)


def draw_classes(
    arms: Sequence[str], names: Sequence[str], values: np.ndarray
) -> "Drawing":
    """A bar for each arm and class; where colors cannot distinguish the arms, a table.

    Args:
      arms: their names.
      names: of the classes.
      values: errors in percent (arms, classes).
    """
    bars = len(arms) <= len(COLORS)
    height = 2.6 if bars else 0.8 + 0.25 * len(arms)
    figure = Drawing(figsize=(8, height), layout="constrained")
    axis = figure.subplots()
    if bars:
        width = 0.8 / len(arms)
        for number, arm in enumerate(arms):
            places = np.arange(len(names)) + number * width
            axis.bar(places, values[number], width, label=arm, color=COLORS[number])
        axis.set_xticks(np.arange(len(names)) + 0.4 - width / 2, names, fontsize=8)
        axis.set(ylabel="top-1 error, %")
        figure.legend(loc="outside upper center", fontsize=7, frameon=False, ncols=4)
    else:
        axis.imshow(
            values, cmap="Reds", vmin=0, vmax=max(1, values.max()), aspect="auto"
        )
        dark = values > 0.6 * values.max()
        for (row, column), value in np.ndenumerate(values):
            color = "white" if dark[row, column] else "black"
            shown = axis.text(column, row, f"{value:.1f}", color=color, fontsize=7)
            shown.set(ha="center", va="center")
        axis.set_xticks(np.arange(len(names)), names, fontsize=8)
        axis.set_yticks(np.arange(len(arms)), arms, fontsize=8)
        axis.set(xlabel="top-1 error, %")
    if max(map(len, names)) > 10:  # the room that ten of them have side by side
        axis.tick_params("x", labelrotation=20)
    return figure


def read_summaries(folder: str | Path = "") -> list[dict[str, Any]]:
    """The summaries of the run folders in `folder`, in $ALEXNET_RUNS, or as committed.

    Raises:
      UserError: if there are none.
    """
    given = str(folder) or os.environ.get("ALEXNET_RUNS", "")
    path = _resolve(given) if given else ROOT / "experiments"
    found = sorted([*path.glob("*/summary.json"), *path.glob("*/*/summary.json")])
    if not found:
        raise UserError(
            f"No summary.json in the folders of {path}: give a folder of run folders that "
            "have been reported."
        )
    return [read_summary(each) for each in found]


def claims_table(summaries: list[dict[str, Any]]) -> str:
    """The paper's claims beside what was measured, in Markdown."""
    return tables.markdown(tables.claims_table(summaries))
