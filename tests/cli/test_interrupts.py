"""Ctrl-C at any moment of a start: status 130 and one line at most, no traceback."""

import signal
import subprocess
import sys
import time

import pytest
from helpers import REPOSITORY, TINY, process_environment, run_code

# Python's own start, some 20 ms, comes before any code of ours.
DELAYS = (0.15, 0.3, 0.6, 1.0, 1.6, 2.4)


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("module", ["jaxgen", "jaxgen.main"])
def test_ctrl_c_soon_after_the_start(module, delay, tmp_path):
    arguments = {
        "jaxgen": ["upscale", str(REPOSITORY / "docs"), "-o", str(tmp_path / "out")],
        "jaxgen.main": [f"--config={TINY}", f"--workdir={tmp_path / 'run'}"],
    }
    # Waits for the interpreter: on a busy machine that takes longer than any fixed delay.
    code = (
        "import runpy, sys; print('ready', flush=True); "
        f"sys.argv = [{module!r}, *sys.argv[1:]]; "
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments[module]],
        cwd=REPOSITORY, env=process_environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    time.sleep(delay)
    ended = process.poll()
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=120)
    assert "Traceback" not in text
    if ended is None:
        assert process.returncode == 130, text


ANOTHER = """
import signal
from jaxgen.log import interrupt
from jaxgen.train.command import guarded

def work():
    signal.signal(signal.SIGINT, interrupt)
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt as error:
        raise SystemError("returned a result with an exception set") from error

guarded(work)
"""


def test_ctrl_c_that_code_in_c_makes_another_error_of():
    done = run_code(ANOTHER)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
