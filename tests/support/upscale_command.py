"""`jaxgen upscale` with a tiny model on disk: fixtures of tests of pictures in and out."""

from __future__ import annotations

import sys

import pytest
from support.tiny_model import tiny_model

from jaxgen import cli
from jaxgen.runs import model as run

__all__ = ["folder", "model", "upscale_command"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The model's folder, as text."""
    return str(tiny_model().export(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def model(folder):
    """The model, opened."""
    return run.load(folder)


@pytest.fixture
def upscale_command(monkeypatch, capsys, tmp_path, folder):
    """Calls the command in this process and in `tmp_path`: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path / ".cache"))

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["jaxgen", "upscale", *map(str, args), "--model", folder])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return call
