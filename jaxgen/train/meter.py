"""Speed of training: steps and images per second, waiting for data, arithmetic."""

from __future__ import annotations

import time


class Meter:
    """Time of the interval's steps, without pauses (compiling, evaluating, saving)."""

    def __init__(self):
        self.began = time.monotonic()
        self.paused = self.waited = 0.0
        self.interval_steps, self.flops = 0, 0.0
        self.closed: dict[int, dict[str, float]] = {}

    def count(self, flops: float) -> None:
        """One step was dispatched, of so many operations; 0 where nobody knows."""
        self.interval_steps += 1
        self.flops += flops

    def close_interval(self, at: int, batch_size: int) -> None:
        """Ends the interval at step `at`; its speed can be read from now on."""
        spent = max(time.monotonic() - self.began - self.paused, 1e-9)
        rate = self.interval_steps / spent
        values = {
            "speed/steps_per_s": rate,
            "speed/images_per_s": rate * batch_size,
            "speed/data_wait": self.waited / spent,
        }
        if self.flops:
            values["speed/gflops_per_s"] = self.flops / spent / 1e9
        self.closed[at] = values
        self.began = time.monotonic()
        self.paused = self.waited = 0.0
        self.interval_steps, self.flops = 0, 0.0

    def read(self, at: int) -> dict[str, float]:
        """Speed of the interval that ended at `at`, once."""
        return self.closed.pop(at, {})

    def pause(self):
        """Context whose time does not count as training."""
        return _Timed(self, "paused")

    def waiting(self):
        """Context whose time counts as waiting for data."""
        return _Timed(self, "waited")


class _Timed:
    def __init__(self, meter: Meter, field: str):
        self.meter, self.field = meter, field

    def __enter__(self):
        self.began = time.monotonic()

    def __exit__(self, *_):
        spent = time.monotonic() - self.began
        setattr(self.meter, self.field, getattr(self.meter, self.field) + spent)
