"""Shows the progress of a command on standard error: a bar, or plain lines."""

import sys
import time
from collections.abc import Hashable

from tqdm import tqdm

PLAIN_SECONDS = 10.0
TIMED_SECONDS = 1.0  # below which there is no estimate of the time left
BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


class Progress:
    """Counts the images that a command has processed, and shows how far it is.

    On a terminal it is a bar, which appears with the first `begin`. Elsewhere it is plain
    lines, at most one in ten seconds. Nothing is shown if not `shown`.

    The time left is estimated from the images that were timed: neither those that an
    earlier run has processed, nor those during which a program was compiled.
    """

    def __init__(self, total_images: int, *, shown: bool = True) -> None:
        self.shown = shown
        self.total = total_images
        self.done = self.skipped = 0
        self.printed = time.monotonic()
        self.timed_images, self.timed_seconds = 0, 0.0
        self._since: float | None = self.printed  # when the clock was started
        self._untimed = 0  # advances until the clock is started again
        self._compiled: set[Hashable] = set()
        self.label = ""
        self.bar = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def begin(self, label: str) -> None:
        """Starts the part of the work that is called `label`."""
        if not self.label:
            self.printed = time.monotonic()
            if self._since is not None:
                self._since = self.printed
        self.label = label
        if self.bar is None and self.shown and sys.stderr.isatty():
            self.bar = tqdm(
                total=self.total,
                unit_scale=True,
                dynamic_ncols=True,
                bar_format=BAR_FORMAT,
            )
        if self.bar is not None:
            self.bar.set_description(label)

    def compiling(self, program: Hashable, *, untimed: int = 1) -> None:
        """Stops the clock if `program` is new, because it is compiled first.

        Args:
          program: anything that stands for it.
          untimed: the advances after which the clock is started again.
        """
        if program in self._compiled:
            return
        self._compiled.add(program)
        if self._since is not None and self.timed_images:
            self.timed_seconds += time.monotonic() - self._since
        self._since, self._untimed = None, max(self._untimed, untimed)

    def set_total(self, images: int) -> None:
        """Corrects the total, for example when a trial ends early."""
        self.total = images
        if self.bar is not None:
            self.bar.total = images
            self.bar.refresh()

    def skip(self, images: int) -> None:
        """Counts images that an earlier run of the command has processed."""
        self.done += images
        self.skipped += images
        if self.bar is not None:
            self.bar.update(images)

    def advance(self, images: int) -> None:
        """Counts images that have just been processed."""
        self.done += images
        now = time.monotonic()
        if self._since is not None:
            self.timed_images += images
        elif self._untimed > 1:
            self._untimed -= 1
        else:
            self._since, self._untimed = now, 0
        if self.bar is not None:
            self.bar.set_postfix_str(", ".join(self._estimate(now)), refresh=False)
            self.bar.update(images)
        elif self.shown and images and now - self.printed >= PLAIN_SECONDS:
            self.printed = now
            estimate = self._estimate(now) or ["time left not known yet"]
            parts = (f"{self.done / self.total:4.0%}", self.label, *estimate)
            print("  ".join(parts), file=sys.stderr, flush=True)

    def _estimate(self, now: float) -> list[str]:
        """Throughput and time left in words; nothing while too little was timed."""
        running = 0.0 if self._since is None else now - self._since
        seconds = self.timed_seconds + running
        if self.timed_images == 0 or seconds < TIMED_SECONDS:
            return []
        throughput = self.timed_images / seconds
        left = max(0, int((self.total - self.done) / throughput))
        return [f"{throughput:,.0f} images/s", f"{left // 60}:{left % 60:02d} left"]

    def warn(self, warning: str | None, label: str) -> None:
        """Prints a warning about `label`, unless it is None."""
        if warning is not None:
            self.print(f"Warning, {label}: {warning}")

    def print(self, message: str) -> None:
        """Prints a line without breaking the bar."""
        if not self.shown:
            return
        if self.bar is not None:
            self.bar.write(message, file=sys.stderr)
        else:
            print(message, file=sys.stderr, flush=True)
