"""What the tests of `jaxgen convert` share."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from jaxgen import cli


def caller(monkeypatch, capsys, tmp_path):
    """Calls the command in this process and in `tmp_path`: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["jaxgen", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return call


def assert_same_bits(a, b):
    """Flat dicts of arrays with the same names and the same bits."""
    assert a.keys() == b.keys()
    assert not [k for k in a if np.asarray(a[k]).tobytes() != np.asarray(b[k]).tobytes()]
