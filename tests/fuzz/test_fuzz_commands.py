"""Hostile commands: each ends in one line and status 2, or does what it says; never a traceback.

`corpus/commands.jsonl` holds them, one JSON object a line; `{pic}` and the like are what
`runner.furnish` makes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fuzz import runner


def test_the_corpus_is_large():
    count = sum(len(runner.cases(name)) for name in ("commands", "values", "files"))
    assert count >= 500


def test_commands_end_in_one_line(tmp_path, monkeypatch):
    places = runner.furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    wrong = []
    for case in runner.cases("commands"):
        found = runner.run(case["args"], places)
        wrong += [f"{case['args']}: {fault}" for fault in runner.faults(case, found)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.skipif(os.name != "posix", reason="names that are no text are POSIX's")
def test_names_that_cannot_be_printed_or_written_do_not_stop_a_folder(tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    photos.mkdir()
    names = [b"a.png", b"b\xff.png", "ç😀.png".encode(), b"l" * 251 + b".png", b"n\nl.png"]
    both = [b"z" * 251 + ending for ending in (b".png", b".bmp")]  # in full too long for .png
    for name in (*names, *both):
        runner.picture(Path(os.fsdecode(os.fsencode(photos) + b"/" + name)))
    places = {"photos": str(photos), "out": str(tmp_path / "out")}
    found = runner.run(["upscale", "{photos}", "-o", "{out}"], places, encoding="ascii")
    assert found.code == 1, found.said
    assert "2 of 7 pictures failed" in found.errors
    assert found.errors.count("File name too long") == 2
    assert sorted(os.listdir(os.fsencode(tmp_path / "out"))) == sorted(names)
