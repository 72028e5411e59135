"""A share of a list: `--shard 3/16` is the third of sixteen; and the files of all shares."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from jaxgen.errors import UserError

T = TypeVar("T")
SHARE = "share"  # what a share's file says of itself besides: {"number", "count", ...}


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

    def batches(self, whole: Sequence[Sequence[Any]], what: str) -> list[Any]:
        """This share of all batches, which stay whole, so that what is computed is the same.

        Args: what: the batches' items, for messages.

        Raises:
          UserError: none is left for it.
        """
        if mine := self.of(whole):
            return mine
        raise UserError(
            f"share {self} is empty: {sum(map(len, whole))} {what} are {len(whole)} batches; give "
            f"at most {len(whole)} shares"
        )

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


def all_shares(
    files: Sequence[tuple[str, Mapping[str, Any], T]], command: str
) -> tuple[list[T], dict[str, Any]]:
    """What of each share is given, in the order of their numbers, and what all files say.

    Args:
      files: (name, what the file says, with `SHARE`, and anything) of each.
      command: that makes such files.

    Raises:
      UserError: a file that holds no share, shares that are not of one whole, one that is missing
        or comes twice.
    """
    if not files:
        raise UserError("--join needs the files of all shares")
    common: dict[str, Any] = {}
    found: dict[int, tuple[str, T]] = {}
    for name, about, thing in files:
        if SHARE not in about:
            raise UserError(f"{name} holds no share ({command} --shard)")
        share = dict(about[SHARE])
        number = share.pop("number")
        own = {**about, SHARE: share}
        if found and own != common:
            raise UserError(
                f"{name} and {files[0][0]} are not of one encoder, data and count of shares"
            )
        common = own
        if number in found:
            raise UserError(f"{name} and {found[number][0]} are the same share, {number}")
        found[number] = name, thing
    numbers = range(1, common.pop(SHARE)["count"] + 1)
    if missing := [str(n) for n in numbers if n not in found]:
        raise UserError(f"of {len(numbers)} shares these are missing: {', '.join(missing[:20])}")
    return [found[n][1] for n in numbers], common


def in_turn(shares: Iterable[Iterator[T]], size: int) -> Iterator[T]:
    """The items of a list whose batches of `size` went to the shares in turn."""
    turns = deque(shares)
    while batch := list(islice(turns[0], size)):
        yield from batch
        turns.rotate(-1)
