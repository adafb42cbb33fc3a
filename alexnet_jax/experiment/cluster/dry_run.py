"""What a sweep would cost: its trials, and an estimate from a few measured steps."""

import dataclasses

from alexnet_jax.experiment.cluster.resources import Resources
from alexnet_jax.experiment.cluster.scheduler import Sweep, clock


@dataclasses.dataclass(frozen=True)
class MeasuredCost:
    """The cost of one trial of each arm, measured by a few steps on one worker.

    Attributes:
      table: the preflight's table of times, memory and disk.
      trial_seconds: seconds of one trial, by arm.
      num_cores: CPU cores that the measurement used.
    """

    table: str
    trial_seconds: dict[str, float]
    num_cores: int


def report(sweep: Sweep, resources: Resources, cost: MeasuredCost) -> str:
    """Returns the trials, and the estimated time of those that remain."""
    groups = sweep.groups(resources)
    seconds_of = cost.trial_seconds
    later = sweep.plan.stages[1:]  # after a tuning stage, which is what is listed
    measured = sum(seconds_of[trial.arm] for stage in later for trial in stage)
    seconds = {
        task.trial.name: seconds_of[task.trial.arm] * sweep.share_of_measured(task)
        for task in sweep.tasks
    }
    now = sum(seconds[task.trial.name] for task in sweep.remaining)
    longest = max(
        (sum(seconds[task.trial.name] for task in group) for group in groups),
        default=0.0,
    )
    # No schedule is faster than its longest group, or than an even share of the work.
    wall_time = max(longest, now / resources.concurrent)
    if later:
        slowest = max(seconds_of[trial.arm] for trial in later[0])
        wall_time += max(slowest, measured / resources.concurrent)
    trials = [
        f"  {task.trial.name}" + (f": {task.state}" if task.has_ended else "")
        for task in sweep.tasks
    ]
    ensembles = (
        f", evaluating the ensembles ({', '.join(sweep.ensemble_arms)})"
        if sweep.ensemble_arms
        else ""
    )
    population = (
        " A population is taken to cost as much as its trials one by one."
        if sweep.plan.settings.population
        else ""
    )
    return "\n".join(
        [
            f"{len(sweep.tasks)} {sweep.what}, {len(sweep.remaining)} to run:",
            *trials,
            *(
                f"Then {len(stage)} trials at each arm's best values."
                for stage in later
            ),
            "",
            f"Measured: a few steps of each arm, on CPU cores: {cost.num_cores}."
            f"{_slowdown(cost.num_cores, resources.cores_per_task(len(groups)))}",
            cost.table,
            "",
            f"Estimate: {clock(now + measured)} of {resources} in total"
            f"{_of_stages(measured)}; with "
            f"{min(resources.concurrent, len(groups))} {sweep.unit} at once, about "
            f"{clock(wall_time)} of wall time, if they do not slow each other down."
            f"{population}",
            f"Not included: starting processes, opening the data{ensembles}.",
            "Nothing was trained, and nothing was written.",
        ]
    )


def _of_stages(measured: float) -> str:
    return f", {clock(measured)} of it after the tuning stage" if measured else ""


def _slowdown(measured_cores: int, cores_per_task: int) -> str:
    """A caveat where the measurement had more cores than a task of the sweep will have."""
    if measured_cores <= cores_per_task:
        return ""
    return (
        f" In the sweep each task has a share of {cores_per_task}, and may take up to "
        f"{measured_cores / cores_per_task:.1f} times as long."
    )
