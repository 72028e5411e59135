"""What a run is going to do, said before it does it; and how long that takes."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import time
from collections.abc import Sequence

from ml_collections import ConfigDict

from jaxgen.errors import UserError
from jaxgen.log import log
from jaxgen.task import Phase, Task

LONG = 2 * 24 * 3600.0  # seconds of training on a CPU from which it is warned of
PROBE = 3  # steps of a stage from which its speed is first taken
KEPT = 4  # log intervals of a stage whose speeds are averaged


@dataclasses.dataclass(frozen=True)
class Stage:
    """Steps `start <= step < stop` in which the same phases are active."""

    start: int
    stop: int
    phases: tuple[str, ...]

    def __str__(self) -> str:
        return " + ".join(self.phases) or "nothing"


def stages(phases: Sequence[Phase], steps: int) -> list[Stage]:
    """The stages of a run of so many steps, in order."""
    edges = {0, steps, *(p.start for p in phases), *(p.stop for p in phases if p.stop is not None)}
    inside = sorted(edge for edge in edges if 0 <= edge <= steps)
    found: list[Stage] = []
    for start, stop in itertools.pairwise(inside):
        active = tuple(p.name for p in phases if p.active(start))
        if found and found[-1].phases == active:
            found[-1] = dataclasses.replace(found[-1], stop=stop)
        else:
            found.append(Stage(start, stop, active))
    return found


def announce(config: ConfigDict, task: Task, pictures: int) -> None:
    """Logs how many pictures there are, the stages, and what is evaluated and saved when."""
    train = config.train
    evaluates = task.evaluate is not None and train.eval_every >= 0
    said = f"data: {pictures:,} pictures to train on"
    if evaluates and task.validates is not None:
        try:
            said += f", {task.validates():,} to validate on"
        except UserError as error:
            log.warning("evaluations will fail: %s", error)
    log.info("%s; batches of %d", said, train.batch_size)
    found = stages(task.phases, train.steps)
    for number, stage in enumerate(found, start=1):
        log.info(
            "stage %d of %d: %s, %s steps (to step %s)",
            number, len(found), stage, f"{stage.stop - stage.start:,}", f"{stage.stop:,}",
        )  # fmt: skip
    when = f"every {train.eval_every:,} steps and at the end" if train.eval_every else "at the end"
    log.info(
        "a line every %d steps; %s; a checkpoint every %s",
        train.log_every,
        f"evaluated {when}, with pictures in samples/ and curves.png" if evaluates
        else "no evaluations",
        f"{train.checkpoint_every:,}",
    )  # fmt: skip
    for phase in task.phases:
        if phase.start >= train.steps and (phase.stop is None or phase.stop > phase.start):
            log.warning(
                "train.steps=%s ends before the phase %s begins, at step %s: it is not trained; "
                "give more steps, or leave the phase out",
                f"{train.steps:,}", phase.name, f"{phase.start:,}",
            )  # fmt: skip


class Pace:
    """The time that is left, from the measured speed of each stage.

    Args:
      eval_every: as `train.eval_every`; evaluations are counted in once one was measured.
    """

    def __init__(self, found: Sequence[Stage], eval_every: int = -1):
        self.stages = list(found)
        self.total = self.stages[-1].stop if self.stages else 0
        self._eval_every = eval_every
        self._evaluation = 0.0
        # Seconds a step of each stage's last intervals, by the stage's first step.
        self._speeds: dict[int, collections.deque[float]] = {}
        self._probe: tuple[int, int, float] | None = None  # stage, step, time
        self._warned = False

    def measured(self, at: int, steps_per_s: float) -> None:
        """The speed of an interval that ended at step `at`."""
        stage = self._stage(at - 1)
        speeds = self._speeds.setdefault(stage.start, collections.deque(maxlen=KEPT))
        speeds.append(1.0 / max(steps_per_s, 1e-9))

    def evaluated(self, seconds: float) -> None:
        """What the last evaluation took."""
        self._evaluation = seconds

    def left(self, step: int) -> str:
        """The time from `step` to the end, and which stages it leaves out, not yet measured."""
        seconds, unknown = 0.0, []
        for number, stage in enumerate(self.stages, start=1):
            steps = stage.stop - max(stage.start, step)
            if steps <= 0:
                continue
            speeds = self._speeds.get(stage.start)
            if speeds:
                seconds += steps * sum(speeds) / len(speeds)
            else:
                unknown.append(f"{steps:,} steps of stage {number}")
        seconds += self._evaluation * self._evaluations(step)
        return " + ".join([duration(seconds), *unknown])

    def too_long(self, step: int, device: str) -> str:
        """A warning where the run takes days on a CPU, once; else "".

        Args: step: that the device has finished. device: the backend's name.
        """
        if self._warned or device != "cpu" or step >= self.total:
            return ""
        stage, now = self._stage(step), time.monotonic()
        if self._probe is None or self._probe[0] != stage.start:
            self._probe = stage.start, step, now
            return ""
        _, first, then = self._probe
        if step - first < PROBE:
            return ""
        left = self.total - step
        seconds = (now - then) / (step - first) * left
        self._warned = seconds >= LONG
        if not self._warned:
            return ""
        return (
            f"{left:,} steps: about {seconds / 86400:,.0f} days on this CPU at the first steps' "
            "pace; the config was made for another machine (`jaxgen configs` says which)"
        )

    def in_last(self, step: int) -> bool:
        """Whether this step, which is still to be done, is one of the last stage."""
        return self._stage(step) is self.stages[-1]

    def _stage(self, step: int) -> Stage:
        """That of a step; of one outside the last."""
        inside = (stage for stage in self.stages if stage.start <= step < stage.stop)
        return next(inside, self.stages[-1])

    def _evaluations(self, step: int) -> int:
        """How many are still to come after `step`."""
        if self._eval_every < 0 or step >= self.total:
            return 0
        every = self._eval_every
        within = self.total // every - step // every if every else 0
        return within + (not every or self.total % every != 0)


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss, or m:ss; of days "3 days 4 h"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} days {hours % 24} h"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
