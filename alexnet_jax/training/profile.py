"""Traces a window of training steps with jax.profiler."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax


class ProfilerWindow:
    """A window of steps, traced into `folder`/profile; a context manager.

    Leaving it ends a trace that the end of the run or a signal cuts short.

    Args:
      window: the first and the last step of the window; empty: nothing is traced.
      folder: the trial's folder; None: this process traces nothing.
    """

    def __init__(self, window: Sequence[int], folder: Path | None) -> None:
        self.window = tuple(window)
        self.folder = folder / "profile" if folder is not None else None
        self.tracing = False

    def __enter__(self) -> "ProfilerWindow":
        return self

    def __exit__(self, *_: object) -> None:
        if self.tracing:
            jax.profiler.stop_trace()

    def begins_at(self, step: int) -> bool:
        """Whether `step` is the first step of the window."""
        return self.window[:1] == (step,)

    @contextlib.contextmanager
    def annotate(self, step: int) -> Iterator[None]:
        """Marks what is dispatched as step `step`; starts the trace at the first one."""
        if not self.window or self.folder is None:
            yield
            return
        if self.begins_at(step):
            jax.profiler.start_trace(str(self.folder))
            self.tracing = True
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            yield

    def ended_by(self, step: int, outputs: Any) -> bool:
        """Ends the trace if `step`, which computes `outputs`, is the last of the window.

        Returns whether the trace has ended; its files are then in `self.folder`.
        """
        if not self.tracing or step != self.window[-1]:
            return False
        jax.block_until_ready(outputs)
        jax.profiler.stop_trace()
        self.tracing = False
        return True
