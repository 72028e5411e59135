"""What a run says before it begins, and what it warns of."""

import pytest

from jaxgen import config as configs
from jaxgen.errors import UserError
from jaxgen.task import Evaluation, Phase, Task
from jaxgen.train import plan
from jaxgen.train.plan import Pace, Stage, duration, stages


def phase(name, start=0, stop=None):
    return Phase(name, (), lambda: None, start=start, stop=stop)


GAN = (phase("pretrain", stop=2500), phase("d", 2500), phase("g", 2500))


def test_stages_are_where_phases_begin_and_end():
    assert stages(GAN, 3000) == [Stage(0, 2500, ("pretrain",)), Stage(2500, 3000, ("d", "g"))]
    assert stages(GAN, 2500) == [Stage(0, 2500, ("pretrain",))]
    assert stages([phase("a", stop=5), phase("b", 5, 5), phase("c", 9)], 12) == [
        Stage(0, 5, ("a",)), Stage(5, 9, ()), Stage(9, 12, ("c",)),
    ]  # fmt: skip
    # Where one phase follows on another of no length nothing changes.
    assert stages([phase("a"), phase("b", 3, 3)], 6) == [Stage(0, 6, ("a",))]


@pytest.fixture
def announced(caplog):
    def announce(phases=GAN, validates=lambda: 7, **train):
        config = configs.base("any")
        config.train.update(steps=3000, log_every=50, eval_every=500, checkpoint_every=1000)
        config.train.update(train)
        task = Task(
            init=lambda: None, phases=phases, train_data=lambda: None, validates=validates,
            evaluate=lambda *_: Evaluation({}),
        )  # fmt: skip
        caplog.clear()
        with caplog.at_level("INFO", logger="jaxgen"):
            plan.announce(config, task, 12_345)
        return [record.getMessage() for record in caplog.records], [
            record.getMessage() for record in caplog.records if record.levelname == "WARNING"
        ]

    return announce


def test_pictures_stages_and_evaluations_are_said(announced):
    said, warned = announced()
    assert said[0].startswith("data: 12,345 pictures to train on, 7 to validate on; batches of ")
    assert said[1] == "stage 1 of 2: pretrain, 2,500 steps (to step 2,500)"
    assert said[2] == "stage 2 of 2: d + g, 500 steps (to step 3,000)"
    assert "evaluated every 500 steps and at the end" in said[3]
    assert not warned
    assert "evaluated at the end" in announced(eval_every=0)[0][3]
    said, _ = announced(eval_every=-1)
    assert "no evaluations" in said[3]
    assert "validate" not in said[0]


def test_a_stage_that_is_never_reached_is_warned_of(announced):
    _, warned = announced(steps=2500)
    assert len(warned) == 2
    assert warned[0].startswith("train.steps=2,500 ends before the phase d begins, at step 2,500")
    assert not announced(steps=2501)[1]


def test_evaluations_that_would_fail_are_warned_of(announced):
    def nothing():
        raise UserError("no validation pictures")

    assert announced(validates=nothing)[1] == ["evaluations will fail: no validation pictures"]


def test_days_on_a_cpu_are_warned_of_once(monkeypatch):
    now = 0.0
    monkeypatch.setattr(plan.time, "monotonic", lambda: now)
    pace = Pace(stages([phase("g")], 60_000))
    said = []
    for step in range(1, 9):
        now += 72.0  # seconds a step
        said.append(pace.too_long(step, "cpu"))
    assert [bool(text) for text in said] == [False] * 3 + [True] + [False] * 4
    assert said[3].startswith("59,996 steps: about 50 days on this CPU")
    quick = Pace(stages([phase("g")], 60_000))
    for step in range(1, 9):
        now += 1.0
        assert not quick.too_long(step, "cpu")
    slow = Pace(stages([phase("g")], 60_000))
    for step in range(1, 9):
        now += 72.0
        assert not slow.too_long(step, "gpu")


def test_durations():
    assert [duration(s) for s in (5, 65, 3661, 50 * 86400 + 7200)] == [
        "0:05", "1:05", "1:01:01", "50 days 2 h",
    ]  # fmt: skip
