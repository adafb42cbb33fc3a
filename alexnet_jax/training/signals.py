"""SIGTERM and SIGINT finish the step in hand and save; SIGUSR1 saves and goes on."""

import os
import signal
import threading
import time
from types import FrameType

LEAVING = (signal.SIGTERM, signal.SIGINT)
SAVING = signal.SIGUSR1
ONE_WISH_SECONDS = 1.0  # of SIGTERM
NOTHING, SAVE = 0, 1  # what is asked for; else, the number of a signal: to leave

# Of the wishes of several processes the largest is followed.
assert min(LEAVING) > SAVE


class Signals:
    """While it is entered, signals only set what is `asked`; a second one to leave acts.

    They are read by a thread, from a pipe that the operating system's handler writes to:
    Python's own handlers run between two of the main thread's bytecodes, and so not
    while that compiles or waits for a device. To be entered in the main thread.
    """

    def __init__(self) -> None:
        self.asked = NOTHING
        self._since = 0.0  # when it was first asked to leave

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
        """What is asked for; to save, once for each time it was asked."""
        asked = self.asked
        if asked == SAVE:
            self.asked = NOTHING
        return asked

    def _listen(self) -> None:
        while heard := os.read(self._read_end, 1):
            self._note(heard[0])

    def _note(self, number: int) -> None:
        if number == SAVING:
            self.asked = max(self.asked, SAVE)
        elif number in LEAVING:
            if self.asked not in (NOTHING, SAVE):
                # Launchers signal a process and then its group: one wish, heard twice.
                soon = time.monotonic() - self._since < ONE_WISH_SECONDS
                if number == signal.SIGTERM and soon:
                    return
                _say(
                    "\nOnce more: leaving at once. Saves that were complete are kept.\n"
                )
                os._exit(128 + number)
            self.asked, self._since = number, time.monotonic()
            name = signal.Signals(number).name
            _say(
                f"\n{name}: finishing the step and saving; once more leaves at once.\n"
            )


def _handled_by_thread(number: int, frame: FrameType | None) -> None:
    pass


def _say(message: str) -> None:
    """Unbuffered: another thread may be in the midst of a line."""
    os.write(2, message.encode())
