"""Reading a log interval's sums on the host; a number that is not finite stops the run here."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import jax

from jaxgen.errors import UserError
from jaxgen.train.checkpoint import Checkpoints
from jaxgen.train.step import Tally


class NonFiniteError(UserError):
    """A loss or gradient is NaN or infinite; the message names step, phase and net."""


def read_tally(
    tallies: Sequence[Tally], phases: list[str], max_skips: int, checkpoints: Checkpoints
) -> dict[str, float]:
    """Means of an interval, from what each of its programs summed.

    Args:
      tallies: one for each program that ran in the interval.
      phases: in the order in which they run.

    Raises:
      NonFiniteError: a number was not finite, more often than `max_skips` allows.
    """
    bad: dict[str, int] = {}
    sums: dict[str, float] = collections.defaultdict(float)
    counts: dict[str, int] = collections.defaultdict(int)
    skipped = 0
    for host in jax.device_get(list(tallies)):
        for key, value in host.sums.items():
            sums[key] += float(value)
        for key, value in host.counts.items():
            counts[key] += int(value)
        for key, value in host.bad.items():
            if value >= 0:
                bad[key] = min(int(value), bad.get(key, int(value)))
        skipped += int(host.skipped)
    if (bad and skipped >= max(max_skips, 1)) or (bad and max_skips == 0):

        def order(item: tuple[str, int]) -> tuple[int, int, bool]:
            """By step, then by phase, and a loss before the gradients that it spoiled."""
            key, at = item
            return at, phases.index(key.split("/", 1)[0]), "/grad/" in key

        key, at = min(bad.items(), key=order)
        phase, what = key.split("/", 1)
        what = f"gradient of net '{what[5:]}'" if what.startswith("grad/") else "loss"
        checkpoints.wait()
        good = checkpoints.steps()
        kept = (
            f"the last good checkpoint is step {good[-1]}"
            if good
            else "no checkpoint was saved yet"
        )
        raise NonFiniteError(
            f"the {what} of phase '{phase}' is NaN or infinite at step {at}; {kept}. "
            f"Lower optimizer.{phase}.lr, set optimizer.{phase}.clip_norm or train.max_skips, or "
            "find the operation with --debug"
        )
    values: dict[str, float] = {}
    for phase in phases:  # whichever program ran first
        mine = {key: total for key, total in sums.items() if key.split("/", 1)[0] == phase}
        if count := counts[phase]:
            values |= {key: total / count for key, total in mine.items()}
    if skipped:
        values["skipped_updates"] = float(skipped)
    return values
