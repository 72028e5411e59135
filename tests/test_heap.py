"""jaxgen.heap: large freed blocks are reused without new page faults."""

import subprocess
import sys

import pytest

from jaxgen import devices, heap

SCRIPT = """
import resource
from jaxgen import heap
if {keep}:
    assert heap.keep_freed_memory()
import numpy as np
def fill():
    np.empty(64 * 2**20, np.uint8).fill(1)
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    command = [sys.executable, "-c", SCRIPT.format(keep=keep)]
    environment = {"PYTHONPATH": ":".join(sys.path), "GLIBC_TUNABLES": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_freed_blocks_are_reused():
    # 64 MB are 16,384 pages, or 32 huge ones where the kernel gives those.
    assert faults(keep=True) < faults(keep=False) / 10


@pytest.mark.skipif(sys.platform != "linux", reason="mallinfo2 is glibc's")
def test_what_is_kept_counts_as_free():
    """Of a stage's program that has ended, the next one's takes its memory."""
    script = """
from jaxgen import devices, heap
import numpy as np
np.empty(2**28, np.uint8).fill(1)
assert heap.kept() == 0
heap.keep_freed_memory()
np.empty(2**28, np.uint8).fill(1)
assert 2**28 <= heap.kept() < 2**28 + 2**27, heap.kept()
both, of_the_system = devices._available(), devices._available() - heap.kept()
assert both - of_the_system > 2**27
"""
    environment = {"PYTHONPATH": ":".join(sys.path), "GLIBC_TUNABLES": ""}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


def test_windows_are_smaller_where_freed_memory_is_kept(monkeypatch):
    monkeypatch.setattr(heap, "_kept", False)
    before = devices.memory()
    monkeypatch.setattr(heap, "_kept", True)
    assert devices.memory() <= before / 2
