"""Reads batches and places them on the devices while others are in use."""

import queue
import threading
import time
from collections.abc import Callable, Generator, Mapping
from types import TracebackType
from typing import Any

import jax

# Batches read and placed while another is in use. Each takes its share of device memory.
PREFETCHED = 2


class Prefetcher:
    """Batches that a thread reads and places ahead of their use.

    At most `PREFETCHED` batches wait to be used, and one more is being read. A context
    manager: leaving it ends the thread and closes `batches`.

    Args:
      batches: the batches in host memory.
      place: copies a batch onto the devices.
    """

    def __init__(
        self,
        batches: Generator[Mapping[str, Any], None, None],
        place: Callable[[Mapping[str, Any]], dict[str, jax.Array]],
    ) -> None:
        self.waited = 0.0  # seconds that `next` has waited for a batch
        self._batches, self._place = batches, place
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=PREFETCHED)
        self._left = False
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Prefetcher":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left = True
        while self._thread.is_alive():  # it may be waiting for room in the queue
            while not self._queue.empty():
                self._queue.get_nowait()
            self._thread.join(timeout=0.01)
        self._batches.close()

    def _read(self) -> None:
        try:
            for batch in self._batches:
                self._queue.put(self._place(batch))
                if self._left:
                    return
            self._queue.put(None)
        except BaseException as error:
            self._queue.put(error)

    def ready(self) -> bool:
        """Whether `next` returns at once."""
        return not self._queue.empty()

    def next(self) -> dict[str, jax.Array] | None:
        """The next batch, or None after the last one.

        The time that it waits counts as waiting for input. A caller that keeps the
        devices busy waits for these first, unless a batch is `ready`.

        Raises:
          Exception: whatever reading or placing the batch has raised.
        """
        try:
            found = self._queue.get_nowait()
        except queue.Empty:
            start = time.perf_counter()
            found = self._queue.get()
            self.waited += time.perf_counter() - start
        if found is None or isinstance(found, BaseException):
            self._queue.put(found)  # every later call finds it again
        if isinstance(found, BaseException):
            raise found
        return found
