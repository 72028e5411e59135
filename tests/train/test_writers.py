"""What a run leaves for its reader: lines that a resumed run continues, and an honest time left."""

import json
import math

import pytest

from jaxgen.task import Evaluation, Phase
from jaxgen.train.curves import draw_curves
from jaxgen.train.plan import Pace, stages
from jaxgen.train.writers import Writer
from jaxgen.weights.checkpoints import METRICS, read_metrics


@pytest.fixture
def said(tmp_path, monkeypatch):
    """(a writer of two stages, what it says)."""
    lines = []
    phases = [phase("first", stop=1000), phase("second", start=1000)]
    writer = Writer(tmp_path, 0, Pace(stages(phases, 10_000), 5000), tensorboard=False)
    monkeypatch.setattr(writer, "say", lines.append)
    yield writer, lines
    writer.close()


def phase(name, **window):
    return Phase(name, (), lambda: None, **window)


def line(writer, step, speed):
    writer.scalars(step, "train", {"loss": 1.0, "speed/steps_per_s": speed})


def test_time_left_is_of_all_stages_by_the_speed_of_each(said):
    writer, lines = said
    line(writer, 100, 100.0)
    assert lines[-1].endswith("eta 0:09 + 9,000 steps of stage 2")
    line(writer, 1000, 100.0)
    assert lines[-1].endswith("eta 0:00 + 9,000 steps of stage 2")
    line(writer, 1100, 1.0)  # the slow stage
    assert lines[-1].endswith("eta 2:28:20")  # 8,900 steps
    for step in range(1200, 1601, 100):  # by the last few lines
        line(writer, step, 2.0)
    assert lines[-1].endswith("eta 1:10:00")  # 8,400 steps
    writer.pace.evaluated(30.0)  # at 5,000 and 10,000
    line(writer, 1700, 2.0)
    assert lines[-1].endswith("eta 1:10:10")
    line(writer, 5000, 2.0)
    assert lines[-1].endswith("eta 42:10")


def test_numbers_are_explained_once(said):
    writer, lines = said
    for step in (1, 2):
        writer.evaluation(step, Evaluation({"gain_y": 1.0, "distance": 0.5, "odd": 2.0}))
    assert [text.split(":")[0] for text in lines[1:3]] == ["  gain_y", "  distance"]
    assert len(lines) == 4
    assert lines[3].startswith("eval step 2/10000")


def test_curves_are_grouped_named_and_marked(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    rows = [
        {"step": step, "kind": "train", f"{phase}/loss": 1.0 / step, f"{phase}/lr": 1.0}
        for phase, steps in (("pretrain", (1, 2)), ("g", (3, 4)))
        for step in steps
    ]
    values = {"psnr_y": 20.0, "bicubic_psnr_y": 19.0, "whole": 0.5, "held_out_whole": 0.4}
    rows += [{"step": step, "kind": "eval", **values} for step in (2, 4)]
    (tmp_path / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    drawn = []
    monkeypatch.setattr(
        Figure, "savefig", lambda self, path, **_: (drawn.append(self), path.write_bytes(b""))
    )
    draw_curves(tmp_path, [(0, "pretrain"), (3, "d + g")])
    figure = drawn[0]
    assert [text.get_text() for text in figure.texts] == [
        "training: pretrain", "training: g", "evaluation",
    ]  # fmt: skip
    panels = {axis.get_title(): axis for axis in figure.axes}
    assert list(panels) == ["loss", "psnr_y", "whole"]
    assert all(axis.get_xlabel() == "step" and axis.get_ylabel() for axis in figure.axes)
    assert panels["psnr_y"].get_ylabel() == "dB"
    legends = [text.get_text() for text in panels["psnr_y"].get_legend().get_texts()]
    assert legends == ["validation", "bicubic"]
    legends = [text.get_text() for text in panels["whole"].get_legend().get_texts()]
    assert legends == ["validation", "held out"]
    assert [text.get_text().strip() for text in panels["whole"].texts] == ["d + g"]
    assert (tmp_path / "curves.png").exists()


def test_metrics_of_a_resumed_run_go_on_where_it_does(tmp_path):
    pace = Pace(stages([phase("g")], 4))
    first = Writer(tmp_path, 0, pace, tensorboard=False)
    for step in (1, 2, 3):
        first.scalars(step, "train", {"loss": float(step)})
    first.close()
    with open(tmp_path / METRICS, "a") as file:
        file.write('{"step": 4, "ki')  # killed while it wrote
    second = Writer(tmp_path, 2, pace, tensorboard=False)
    second.scalars(3, "train", {"loss": math.nan})
    second.close()
    found = read_metrics(tmp_path)
    assert [(line["step"], line["loss"]) for line in found] == [(1, 1.0), (2, 2.0), (3, None)]
    assert all(json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines())
