"""SIGTERM and SIGINT save after the current step and leave; SIGUSR1 saves and continues.

Where nothing is saved, as in a preflight, SIGTERM and SIGINT leave and SIGUSR1 does nothing.
"""

import os
import signal
import threading
import time
from types import FrameType

LEAVING = (signal.SIGTERM, signal.SIGINT)
SAVING = signal.SIGUSR1
ONE_REQUEST_SECONDS = 1.0  # within which a second SIGTERM is the same request

# Requested actions; any other number is that of a signal, and means to leave.
NOTHING, SAVE = 0, 1

# Of the actions that several processes request, the largest is taken.
assert min(LEAVING) > SAVE


class Signals:
    """A context manager in which signals only set the `requested` action.

    A second signal to leave ends the process. Signals are read by a thread, from a pipe
    that the operating system's handler writes to: Python's own handlers run between two
    bytecodes of the main thread, and so not while it compiles or waits for a device. The
    context must be entered in the main thread.

    Attributes:
      requested: the action.
      saves: whether what is running is saved; if not, the messages say so.
    """

    def __init__(self, *, saves: bool = True) -> None:
        self.saves = saves
        self.requested = NOTHING
        self._since = 0.0  # time of the first request to leave

    def __enter__(self) -> "Signals":
        self._read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        self._write_end = write_end
        self._wakeup_before = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        self._before = {
            each: signal.signal(each, _handled_by_thread) for each in (*LEAVING, SAVING)
        }
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._write_end)
        self._thread.join()
        os.close(self._read_end)

    def take(self) -> int:
        """The requested action; `SAVE` is returned once for each request."""
        requested = self.requested
        if requested == SAVE:
            self.requested = NOTHING
        return requested

    def _listen(self) -> None:
        while received := os.read(self._read_end, 1):
            self._note(received[0])

    def _note(self, number: int) -> None:
        if number == SAVING:
            self.requested = max(self.requested, SAVE)
        elif number in LEAVING:
            if self.requested not in (NOTHING, SAVE):
                # Launchers signal a process and then its group: one request, received twice.
                soon = time.monotonic() - self._since < ONE_REQUEST_SECONDS
                if number == signal.SIGTERM and soon:
                    return
                left = (
                    "Completed saves are kept."
                    if self.saves
                    else "The next preflight removes the temporary folder of this one."
                )
                _print(f"\nSecond signal: leaving at once. {left}\n")
                os._exit(128 + number)
            self.requested, self._since = number, time.monotonic()
            name = signal.Signals(number).name
            what = (
                "finishing the step and saving"
                if self.saves
                else "stopping after this step, keeping nothing"
            )
            _print(f"\n{name}: {what}; a second one leaves at once.\n")


def _handled_by_thread(number: int, frame: FrameType | None) -> None:
    pass


def _print(message: str) -> None:
    """Prints to standard error, unbuffered: another thread may be amid a line."""
    os.write(2, message.encode())
