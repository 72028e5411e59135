"""SIGTERM, SIGUSR1 (Slurm's warning) and Ctrl-C ask the loop to save and stop, once.

A second Ctrl-C stops at once.
"""

from __future__ import annotations

import signal
import threading
from typing import Any

import jax


class StopSignal:
    """Context in which signals set a flag instead of ending the process.

    With several hosts SIGTERM is left to JAX's preemption service, which makes all of them agree
    on the step to save at (`Checkpoints.reached_preemption`).
    """

    def __init__(self):
        self.reason = "preempted"
        self._asked = False
        self._before: dict[int, Any] = {}

    def asked(self) -> bool:
        """True once a signal has come."""
        return self._asked

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread() and jax.process_count() == 1:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = True
        self.reason = "interrupted" if number == signal.SIGINT else "preempted"
