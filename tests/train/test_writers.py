"""What a run leaves for its reader: lines that a resumed run continues, and an honest time left."""

import json
import math

from jaxgen.train import writers
from jaxgen.train.writers import Writer
from jaxgen.weights.checkpoints import METRICS, read_metrics


def test_time_left_follows_the_pace_of_the_last_lines(tmp_path, monkeypatch):
    said, now = [], 0.0
    monkeypatch.setattr(writers.time, "monotonic", lambda: now)
    writer = Writer(tmp_path, 0, 10_000, tensorboard=False)
    monkeypatch.setattr(writer, "say", said.append)
    for step in range(100, 1001, 100):  # a quick phase: 100 steps a second
        now += 1.0
        writer.scalars(step, "train", {"loss": 1.0})
    assert said[-1].endswith("eta 1:30")  # 9,000 steps
    for step in range(1100, 2001, 100):  # a slow one: 1 step a second
        now += 100.0
        writer.scalars(step, "train", {"loss": 1.0})
    assert said[-1].endswith("eta 2:13:20")  # 8,000 steps
    writer.close()


def test_metrics_of_a_resumed_run_go_on_where_it_does(tmp_path):
    first = Writer(tmp_path, 0, 4, tensorboard=False)
    for step in (1, 2, 3):
        first.scalars(step, "train", {"loss": float(step)})
    first.close()
    with open(tmp_path / METRICS, "a") as file:
        file.write('{"step": 4, "ki')  # killed while it wrote
    second = Writer(tmp_path, 2, 4, tensorboard=False)
    second.scalars(3, "train", {"loss": math.nan})
    second.close()
    found = read_metrics(tmp_path)
    assert [(line["step"], line["loss"]) for line in found] == [(1, 1.0), (2, 2.0), (3, None)]
    assert all(json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines())
