"""Which of the values that a user set nothing reads beside the others: they have no effect.

A misspelt key is an error, and a value that cannot be too. But `data.blind.plain=0.3` is a fine
value, and with `data.degradation=bicubic` it does nothing. So the sections note what is read of
them, and once all is made that reads them, the rest is said.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ml_collections import ConfigDict

from jaxgen.log import log

# What is read as soon as the first step is compiled; of `model`, losses are when theirs is.
_EARLY, _LATE = ("data", "optimizer"), ("data", "optimizer", "model")


class Reads:
    """Notes what is read of `config`, a copy of the one given, and of copies of its sections.

    Args:
      asked: dotted keys that the user set, leaves or sections.

    Attributes:
      config: to be given to what reads it; its copies are as good.
    """

    def __init__(self, config: ConfigDict, asked: Collection[str]):
        self._read: set[str] = set()
        self._asked = dict.fromkeys(asked)
        self._told: set[str] = set()
        self.config: ConfigDict = _noting(config, "", self._read)

    def unread(self, last: bool = True) -> list[str]:
        """Those of the user's keys that nothing has read so far.

        Args:
          last: whether the step of the run's last stage is compiled; before, keys of `model` are
            left out.
        """
        known = tuple(f"{section}." for section in (_LATE if last else _EARLY))
        return [
            key
            for key in self._asked
            if key.startswith(known)
            and key not in self._read
            and not any(one.startswith(f"{key}.") for one in self._read)
        ]

    def tell(self, last: bool) -> None:
        """Warns of each key of `unread` once."""
        for key in self.unread(last):
            if key not in self._told:
                self._told.add(key)
                log.warning("%s has no effect: with the other values nothing reads it", key)


class _Noting(ConfigDict):
    """A section that adds to a set the dotted keys of its leaves that are read."""

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        path, read = self.__dict__.get("_notes", ("", None))
        if read is not None and not isinstance(value, ConfigDict):
            read.add(f"{path}{key}")
        return value

    def copy_and_resolve_references(self, visit_map: Any = None) -> _Noting:
        copy: _Noting = super().copy_and_resolve_references(visit_map)
        object.__setattr__(copy, "_notes", self.__dict__.get("_notes", ("", None)))
        return copy


def plain(section: ConfigDict) -> ConfigDict:
    """A copy that notes nothing, with nothing read."""
    fields = section.items(preserve_field_references=True)
    return ConfigDict({k: plain(v) if isinstance(v, ConfigDict) else v for k, v in fields})


def _noting(section: ConfigDict, path: str, read: set[str]) -> _Noting:
    noting = _Noting()
    for key, value in section.items():
        inner = isinstance(value, ConfigDict)
        noting[key] = _noting(value, f"{path}{key}.", read) if inner else value
    noting.lock()
    object.__setattr__(noting, "_notes", (path, read))
    return noting
