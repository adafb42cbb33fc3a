"""Shows the progress of a command on standard error: a bar, or plain lines."""

import sys
import time

from tqdm import tqdm

PLAIN_SECONDS = 10.0


class Progress:
    """Counts the images that a command has processed, and shows how far it is.

    On a terminal it is a bar, which appears with the first `begin`. Elsewhere it is plain
    lines, at most one in ten seconds. Nothing is shown if not `shown`.
    """

    def __init__(self, total_images: int, *, shown: bool = True) -> None:
        self.shown = shown
        self.total = total_images
        self.done = self.skipped = 0
        self.started = self.printed = time.monotonic()
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
            self.started = self.printed = time.monotonic()
        self.label = label
        if self.bar is None and self.shown and sys.stderr.isatty():
            self.bar = tqdm(
                total=self.total, unit=" images", unit_scale=True, dynamic_ncols=True
            )
        if self.bar is not None:
            self.bar.set_description(label)

    def total_is(self, images: int) -> None:
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
        if self.bar is not None:
            self.bar.update(images)
            return
        now = time.monotonic()
        if self.shown and images and now - self.printed >= PLAIN_SECONDS:
            self.printed = now
            self._print_line(now - self.started)

    def _print_line(self, seconds: float) -> None:
        throughput = (self.done - self.skipped) / seconds
        left = int((self.total - self.done) / throughput)
        print(
            f"{self.done / self.total:4.0%}  {self.label}  {throughput:,.0f} images/s  "
            f"{left // 60}:{left % 60:02d} left",
            file=sys.stderr,
            flush=True,
        )

    def warn(self, warning: str | None, label: str) -> None:
        """Prints a warning about `label`, unless it is None."""
        if warning is not None:
            self.say(f"Warning, {label}: {warning}")

    def say(self, message: str) -> None:
        """Prints a line without breaking the bar."""
        if not self.shown:
            return
        if self.bar is not None:
            self.bar.write(message, file=sys.stderr)
        else:
            print(message, file=sys.stderr, flush=True)
