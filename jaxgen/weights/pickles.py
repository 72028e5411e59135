"""Pickles read as data: no code in them is ever run, and they can't take more than their own size.

Python's own unpickler calls what a pickle names and sets attributes on what it was given. This one
knows the few operations that dicts, lists, numbers and texts need, and calls only what `find` gives
for a name. `pickletools` decodes the bytes; nothing is imported.
"""

from __future__ import annotations

import abc
import dataclasses
import pickletools
from collections.abc import Callable
from typing import IO, Any


class UnsafePickleError(Exception):
    """A pickle that asks for what no weights need; the text names it."""


@dataclasses.dataclass(frozen=True)
class Maker:
    """What a name in a pickle stands for if it may be called: a function of ours."""

    make: Callable[..., Any]


class Stateful(abc.ABC):
    """What a pickle may give a state to, once it is made."""

    @abc.abstractmethod
    def set_state(self, state: Any) -> None:
        """Takes the state. Raises any exception where that is not what was expected."""


_MARK = object()
# Keys of dicts are no longer than this: tuples in items, numbers in bits.
_LONGEST_KEY, _LARGEST_KEY = 16, 64
# Functions of ours may be given so many times the items and bytes that the pickle has itself: what
# is memorised can be given again and again.
_MOST_WORK = 8
# Operations whose argument is the value.
_VALUES = frozenset((
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINSTRING", "SHORT_BINSTRING",
    "STRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
))  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": set}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def load(
    file: IO[bytes],
    size: int,
    find: Callable[[str, str], Any],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Reads one pickle from where `file` stands; leaves it right behind.

    Args:
      size: bytes that the file has.
      find: (module, name) -> what stands for it: a `Maker`, or a value that can't be called.
        Raises `UnsafePickleError` for what is not known.
      persistent: what stands for a thing that lies outside of the pickle, by its id.

    Raises:
      UnsafePickleError: it asks for a call of something else, or for an operation that no weights
        need.
      Exception: of another kind, where it is damaged.
    """
    return _Machine(find, persistent, _MOST_WORK * size).run(file)


class _Machine:
    def __init__(
        self,
        find: Callable[[str, str], Any],
        persistent: Callable[[Any], Any] | None,
        work: int,
    ):
        self._find, self._persistent, self._work = find, persistent, work
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, file: IO[bytes]) -> Any:
        for operation, argument, _ in pickletools.genops(file):
            if operation.name == "STOP":
                [result] = self._stack
                return result
            self._do(operation.name, argument)
        raise ValueError("the pickle has no end")

    def _do(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _VALUES:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument])
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _TUPLES:
            stack.append(tuple(self._pop() for _ in range(_TUPLES[name]))[::-1])
        elif name == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif name == "LIST":
            stack.append(self._since_mark())
        elif name == "FROZENSET":
            stack.append(frozenset(map(key, self._since_mark())))
        elif name == "DICT":
            stack.append(_pairs(self._since_mark()))
        elif name == "SETITEMS":
            items = _pairs(self._since_mark())
            self._top(dict).update(items)
        elif name == "SETITEM":
            value, name_of = self._pop(), self._pop()
            self._top(dict).update(_pairs([name_of, value]))
        elif name == "APPENDS":
            values = self._since_mark()
            self._top(list).extend(values)
        elif name == "APPEND":
            value = self._pop()
            self._top(list).append(value)
        elif name == "ADDITEMS":
            values = self._since_mark()
            self._top(set).update(map(key, values))
        elif name == "POP":
            self._pop()
        elif name not in ("PROTO", "FRAME"):
            self._call(name, argument)

    def _call(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name == "GLOBAL":
            module, _, one = argument.partition(" ")
            stack.append(self._find(module, one))
        elif name == "STACK_GLOBAL":
            one, module = self._pop(), self._pop()
            if not isinstance(module, str) or not isinstance(one, str):
                raise ValueError("a name that is no text")
            stack.append(self._find(module, one))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, made = self._pop(), self._pop()
            if not isinstance(made, Maker) or not isinstance(arguments, tuple):
                raise UnsafePickleError(f"a call of {_kind(made)}")
            self._spend(arguments)
            stack.append(made.make(*arguments))
        elif name == "BUILD":
            state = self._pop()
            if isinstance(stack[-1], Stateful):
                self._spend(state)
                stack[-1].set_state(state)
            elif not isinstance(stack[-1], dict):  # an OrderedDict's attributes are no weights
                raise UnsafePickleError(f"attributes of {_kind(stack[-1])}")
        elif name == "BINPERSID" and self._persistent is not None:
            stack.append(self._persistent(self._pop()))
        else:
            raise UnsafePickleError(f"the operation {name}")

    def _spend(self, values: Any) -> None:
        """Counts what a function of ours has to go through."""
        inner = values if isinstance(values, tuple) else (values,)
        self._work -= len(inner) + sum(len(one) for one in inner if hasattr(one, "__len__"))
        if self._work < 0:
            raise ValueError("it asks for much more than it holds")

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value should be")
        return value

    def _top(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise ValueError(f"items for what is no {kind.__name__}")
        return self._stack[-1]

    def _since_mark(self) -> list[Any]:
        at = len(self._stack) - 1
        while self._stack[at] is not _MARK:  # an IndexError where there is none
            at -= 1
        values = self._stack[at + 1 :]
        del self._stack[at:]
        return values


def _pairs(values: list[Any]) -> dict[Any, Any]:
    return dict(zip(map(key, values[::2]), values[1::2], strict=True))


def key(value: Any) -> Any:
    """The value, if it may be a key: a text or number, or a tuple of some.

    A hash of tuples in tuples, deep enough, is a crash; of long ones it takes its time every time.
    """
    inner = value if isinstance(value, tuple) else (value,)
    if len(inner) > _LONGEST_KEY or not all(map(_plain, inner)):
        raise ValueError(f"a key that is {_kind(value)}")
    return value


def _plain(value: Any) -> bool:
    if isinstance(value, int):
        return value.bit_length() <= _LARGEST_KEY
    return isinstance(value, (str, bytes, float, type(None)))


def _kind(value: Any) -> str:
    # Never its text: lists in lists, each twice in the next, have no end of it.
    return f"a {type(value).__name__}"
