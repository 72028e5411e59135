"""Packages that are oracles: PyTorch, and those that come without torchvision."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest


def pytorch() -> ModuleType:
    """The package torch; skips the test, or the file's tests, where it is not installed.

    It is no dependency, of the tests neither: without it all else is tested. CI installs it.
    """
    module: ModuleType = pytest.importorskip(
        "torch", reason="PyTorch is the oracle: pip install torch"
    )
    return module


class _Empty(MetaPathFinder, Loader):
    """Any part of torchvision as a module in which every name is a class of nothing."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "torchvision":
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = ModuleType(spec.name)
        module.__getattr__ = lambda name: type(name, (), {})
        return module

    def exec_module(self, module):
        pass


@contextlib.contextmanager
def torchvision_or_none() -> Iterator[None]:
    """In it torchvision can be imported where it is not installed, or not for this PyTorch."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        pass
    else:
        yield
        return
    empty, known = _Empty(), set(sys.modules)
    sys.meta_path.insert(0, empty)
    try:
        yield
    finally:
        sys.meta_path.remove(empty)
        for name in set(sys.modules) - known:
            if name.partition(".")[0] == "torchvision":
                del sys.modules[name]
