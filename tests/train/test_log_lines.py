"""Lines of the log come when their steps are done, not an interval later and in pairs."""

from helpers import run, tiny

from jaxgen.train.loop import STEPS_AHEAD
from jaxgen.train.writers import Writer


def test_each_line_comes_within_the_steps_that_the_host_is_ahead(tmp_path, monkeypatch):
    steps, late = [0], {}
    monkeypatch.setattr(Writer, "tick", lambda self: steps.append(steps[-1] + 1))
    original = Writer.scalars

    def scalars(self, step, kind, values):
        if kind == "train":
            late[step] = steps[-1] - step
        original(self, step, kind, values)

    monkeypatch.setattr(Writer, "scalars", scalars)
    config = tiny(train__steps=16, train__log_every=4, model__pretrain_steps=40,
                  train__eval_every=-1, train__checkpoint_every=16)  # fmt: skip
    run(config, tmp_path)
    assert late == {4: STEPS_AHEAD, 8: STEPS_AHEAD, 12: STEPS_AHEAD, 16: 0}
