"""Lines of the log: one form, whoever warns."""

import re

import pytest
from helpers import run_code

from jaxgen.log import _Stderr, log, setup

WARN = """
import sys, warnings
from absl import logging
from jaxgen import log
log.{begin}()
log.log.info("a line")
log.log.warning("of ours")
logging.warning("of absl: %d", 3)
warnings.warn("of Python,\\n in lines")
"""


@pytest.mark.parametrize(
    ("begin", "start", "lines"),
    [("setup", r"\d\d:\d\d:\d\d ", 4), ("plain_warnings", "", 3)],
)
def test_warnings_are_lines_of_the_log(begin, start, lines):
    done = run_code(WARN.format(begin=begin))
    said = done.stderr.splitlines()
    assert len(said) == lines, done.stderr
    for line, text in zip(said[-3:], ("of ours", "of absl: 3", "of Python, in lines"), strict=True):
        assert re.fullmatch(rf"{start}warning: {text}", line)
    assert lines == 3 or re.fullmatch(rf"{start}a line", said[0])


MOVED = """
import io, sys
from jaxgen import log
log.setup()
sys.stderr = io.StringIO()
log.log.info("a line")
assert sys.stderr.getvalue().endswith("a line\\n"), sys.stderr.getvalue()
"""


def test_lines_go_to_what_stderr_is_at_the_time():
    """Not to that of the first command in a process, which may be closed."""
    done = run_code(MOVED)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_test_that_sets_the_log_up():
    setup()
    assert log.handlers
    assert not log.propagate


def test_leaves_it_to_the_next_as_it_was():
    assert not [one for one in log.handlers if isinstance(one, _Stderr)]
    assert log.propagate


def test_a_command_does_not_speak_by_the_log_of_one_before(jaxgen_command):
    """Each is a process of its own but in tests, where the fixture parts them."""
    code, _, err = jaxgen_command("sweep", "--config", "qqq", "--space", "space.py", "--trials", 1)
    assert (code, err.count("\n")) == (2, 1)
    assert not log.handlers
    assert log.propagate
