"""SIGTERM, SIGHUP, SIGUSR1 and Ctrl-C ask the loop to save and stop, once.

SIGUSR1 is what Slurm warns with (`--signal=USR1@120`). A second Ctrl-C stops at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import jax

from jaxgen.log import interrupt

PREEMPTIONS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class StopSignal:
    """Context in which signals set a flag instead of ending the process.

    With several hosts SIGTERM is left to JAX's preemption service, which makes all of them agree
    on the step to save at (`Checkpoints.reached_preemption`); the others are passed on as SIGTERM.
    """

    def __init__(self):
        self.reason = "preempted"
        self._asked = False
        self._before: dict[int, Any] = {}

    def asked(self) -> bool:
        """True once a signal has come."""
        return self._asked

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is not threading.main_thread():
            return self
        if jax.process_count() == 1:
            for number in (*PREEMPTIONS, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        else:
            for number in (signal.SIGHUP, signal.SIGUSR1):
                self._before[number] = signal.signal(number, _pass_on)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame) -> None:
        if self._asked and number == signal.SIGINT:
            interrupt(number, frame)
        if not self._asked:
            self._asked = True
            self.reason = "interrupted" if number == signal.SIGINT else "preempted"
            # Not by the log, whose lock the interrupted code may hold.
            name = signal.Signals(number).name
            said = f"\n{name}: saving after this step, then the run ends; Ctrl-C ends it at once\n"
            with contextlib.suppress(OSError):  # the terminal is gone after a SIGHUP
                os.write(2, said.encode())


@contextlib.contextmanager
def kept_from_workers() -> Iterator[None]:
    """Processes and threads that are started within don't get the signals that ask a run to stop.

    A terminal sends Ctrl-C to all of its processes, and each data worker would print a traceback;
    the run ends its workers itself. SIGTERM stays: it is how they are ended.
    """
    ours = {signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ours)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _pass_on(number: int, frame) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
