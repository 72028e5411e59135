"""A share of a list: `--shard 3/16` is the third of sixteen."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from jaxgen.errors import UserError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Shard:
    """The number-th of count shares, from 1.

    What belongs to a share depends on the whole list alone, never on what is done: shares that run
    at the same time, again or on other machines don't meet.
    """

    number: int
    count: int

    def of(self, items: Sequence[T]) -> list[T]:
        """Every count-th item: neighbours, which tend to be equally large, go to all shares."""
        return list(items[self.number - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def read_shard(text: str) -> Shard:
    """Of a text such as "3/16". UserError: another text, or there is no such share."""
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if not found:
        raise UserError(f"--shard {text}: give NUMBER/COUNT, such as 3/16, the third of sixteen")
    shard = Shard(int(found[1]), int(found[2]))
    if not 1 <= shard.number <= shard.count:
        raise UserError(f"--shard {text}: the shares of {shard.count} are 1 to {shard.count}")
    return shard


def together(shares: Sequence[Sequence[T]]) -> list[T]:
    """The list whose shares these are, in the order of their numbers.

    Raises:
      ValueError: shares of such lengths are not of one list.
    """
    total = sum(map(len, shares))
    whole: list[T | None] = [None] * total
    for number, share in enumerate(shares, 1):
        places = range(total)[number - 1 :: len(shares)]
        if len(places) != len(share):
            raise ValueError(f"share {number} has {len(share)} items, not {len(places)}")
        whole[number - 1 :: len(shares)] = share
    return whole  # type: ignore[return-value]


def digest(names: Iterable[str]) -> str:
    """Of a whole list, so that shares of another state of a folder are told from it."""
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:16]
