"""What each key of a config is: its default, what it may be, and what it does. Said once.

A section is a table, name -> `Key` or table. From it come the section's defaults, its check, the
tables of docs/configs.md and what `jaxgen config FILE --keys` prints.
"""

from __future__ import annotations

import ast
import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from ml_collections import ConfigDict

from jaxgen.errors import UserError, near, shown

MOST = 2**31 - 1  # of an integer: steps and sizes are int32 on devices
WIDEST = 2**16  # of a network's widths and depths
LARGEST = 3.4e38  # of a number: as far as float32 goes


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of a section.

    default: its value before a config sets another; its type is the key's type.
    says: what it does, in a few words.
    least, most, above, below: a number's range, ends included or not. odd: of an integer.
    choices: the only values. also: values beside the range, such as -1 for "none".
    each: what every element of a tuple may be. items: what its elements may be, one by one.
    length: of a tuple. rising: whether each element must be above the one before, or equal to it
      in a range of two (low, high).
    needed: False: a section may lack the key. pattern: of a text, whether it is a regular
      expression.
    """

    default: Any
    says: str = ""
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    odd: bool = False
    choices: tuple[Any, ...] = ()
    also: tuple[Any, ...] = ()
    each: Key | None = None
    items: tuple[Key, ...] = ()
    length: int | None = None
    rising: bool = False
    needed: bool = True
    pattern: bool = False


class Named(NamedTuple):
    """A section with names of the config's own, such as phases, each of the same form."""

    of: Key | Mapping[str, Any]


Table: TypeAlias = Mapping[str, Any]  # name -> Key, Named or Table


def whole(default: int, says: str = "", least: float = 1, **more: Any) -> Key:
    """A key that holds an integer from `least` up."""
    return Key(default, says, least=least, **more)


def share(default: float, says: str = "", **more: Any) -> Key:
    """A key that holds a number from 0 to 1."""
    return Key(default, says, least=0, most=1, **more)


def weight(default: float, says: str = "", **more: Any) -> Key:
    """A key that holds a number from 0 up; beyond a million nothing else counts any more."""
    return Key(default, says, **{"least": 0, "most": 1e6, **more})


def span(default: tuple[float, float], says: str = "", **each: Any) -> Key:
    """A key that holds a range (low, high); `each`: the limits of both."""
    return Key(default, says, each=Key(default[0], **each), length=2, rising=True)


def defaults(table: Table) -> ConfigDict:
    """The section with every key's default."""
    return ConfigDict(
        {
            name: entry.default if isinstance(entry, Key) else defaults(entry)
            for name, entry in table.items()
            if not isinstance(entry, Named)
        }
        | {name: {} for name, entry in table.items() if isinstance(entry, Named)}
    )


def changed(table: Table, name: str, changes: Mapping[str, Any]) -> ConfigDict:
    """The section with every key's default but for `changes`.

    Raises:
      UserError: a setting that there is not, of the section `name`.
    """
    section = defaults(table)
    for key in changes:
        if key not in section:
            raise UserError(f"{name} has no setting {key}{near(key, section)}")
    with section.unlocked():
        section.update(changes)
    return section


def completed(section: ConfigDict, table: Table | Named) -> ConfigDict:
    """A copy that has, with their defaults, the keys that a section may lack."""
    whole = ConfigDict(section.to_dict())
    if isinstance(table, Named):
        table = dict.fromkeys(section, table.of)
    for key, entry in table.items():
        if isinstance(entry, Key):
            if not entry.needed and key not in whole:
                whole[key] = entry.default
        elif isinstance(whole.get(key), ConfigDict):
            whole[key] = completed(whole[key], entry)
    return whole


def check(section: Any, table: Table | Named, name: str = "", start: str = "") -> None:
    """Refuses unknown and missing keys and values that cannot be, in sections below too.

    Args:
      name: of the section in the config, such as "data"; "": the whole config.
      start: what gives a complete section, for the message.

    Raises:
      UserError: naming the key, what it may be, and what it is.
    """
    if not isinstance(section, ConfigDict):
        raise UserError(f"config key {name} must be a section, not {shown(section)}")
    section = ConfigDict(section)  # a plain one: to be checked is not to be read
    if isinstance(table, Named):
        table = dict.fromkeys(section, table.of)
    dot = f"{name}." if name else ""
    for key in section:
        if key not in table:
            known = [f"{dot}{one}" for one in table]
            raise UserError(f"unknown config key {dot}{key}{near(f'{dot}{key}', known)}")
    for key, entry in table.items():
        if key not in section:
            if isinstance(entry, Key) and not entry.needed:
                continue
            hint = f"; start from {start}" if start else ""
            raise UserError(f"config key {dot}{key} is missing{hint}")
        if isinstance(entry, Key):
            check_value(f"{dot}{key}", section[key], entry)
        else:
            check(section[key], entry, f"{dot}{key}", start)


def check_value(name: str, value: Any, key: Key) -> None:
    """Raises UserError where a value is none that the key may have."""
    wanted = _problem(value, key)
    if not wanted:
        return
    hint = ""
    if isinstance(value, str):
        hint = near(value, [choice for choice in key.choices if isinstance(choice, str)])
    raise UserError(f"{name} must be {wanted}, not {shown(value)}{hint}")


def from_text(name: str, text: str, now: Any) -> Any:
    """The value that a text of the command line means for a key whose value is `now`.

    Raises:
      UserError: it is of another type.
    """
    try:
        if isinstance(now, bool):
            return _BOOLEANS[text.lower()]
        if isinstance(now, int):
            return int(text, 0)
        if isinstance(now, float):
            return float(text)
        if isinstance(now, tuple | list):
            return _tuple(text)
    except (ValueError, KeyError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise UserError(f"{name} must be {_kind(Key(now))}, not {shown(text)}") from None
    return text


def guessed(text: str) -> Any:
    """The value that a text most likely means: true, a number, a tuple, or itself."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    return tuple(value) if isinstance(value, tuple | list) else value


_BOOLEANS = {
    **dict.fromkeys(("true", "t", "1", "yes", "y", "on"), True),
    **dict.fromkeys(("false", "f", "0", "no", "n", "off"), False),
}


def _tuple(text: str) -> tuple[Any, ...]:
    """Of Python's notation; a word that is none of it is a text, alone in its tuple."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        if any(mark in text for mark in ", ()[]"):
            raise
        value = text
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def may_be(key: Key) -> str:
    """What a key may be, in words: "an integer, at least 1"."""
    if key.choices:
        return _listed(key.choices)
    limits = _limits(key)
    words = f"{_kind(key)}, {limits}" if limits else _kind(key)
    return f"{words}, or {_listed(key.also)}" if key.also else words


def leaves(section: ConfigDict, table: Table, name: str = "") -> Iterator[tuple[str, Any, Key]]:
    """(dotted key, value, Key) of a section's leaves that the table has, in the table's order."""
    for key in [k for k in table if k in section] if isinstance(table, Mapping) else section:
        entry = table[key] if isinstance(table, Mapping) else table.of
        full = f"{name}.{key}" if name else key
        if isinstance(entry, Key):
            yield full, section[key], entry
        else:
            yield from leaves(section[key], entry, full)


def markdown(table: Table) -> str:
    """The table of a section for the documentation; sections below are left out."""
    lines = ["| key | default | may be | meaning |", "|---|---|---|---|"]
    for name, key in table.items():
        if not isinstance(key, Key):
            continue
        default = key.default if isinstance(key.default, str) and key.default else repr(key.default)
        default = default.replace("'", '"')
        lines.append(f"| `{name}` | `{default}` | {may_be(key)} | {key.says} |")
    return "\n".join(lines) + "\n"


def _problem(value: Any, key: Key) -> str:
    """ "", or what the value should be: the whole of it where its type is wrong, else the limit."""
    if any(_same(value, other) for other in (*key.choices, *key.also)):
        return ""
    if key.choices or not _is_a(value, key):
        return may_be(key)
    if isinstance(value, tuple | list):
        return _problem_within(value, key)
    if isinstance(value, str):
        if key.pattern and not _compiles(value):
            return may_be(key)
        return "a text without NUL" if "\0" in value else ""
    if isinstance(value, bool):
        return ""
    most = MOST if isinstance(value, int) and isinstance(key.default, int) else LARGEST
    if key.most is None and abs(value) > most:
        return f"between {-most:g} and {most:g}"
    beyond = [
        f"{word} {_number(limit)}"
        for word, limit, fine in (
            ("at least", key.least, key.least is None or value >= key.least),
            ("above", key.above, key.above is None or value > key.above),
            ("at most", key.most, key.most is None or value <= key.most),
            ("below", key.below, key.below is None or value < key.below),
        )
        if not fine and limit is not None
    ]
    if key.odd and value % 2 == 0:
        beyond.append("odd")
    also = f", or {_listed(key.also)}" if key.also else ""
    return f"{beyond[0]}{also}" if beyond else ""


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def _problem_within(values: Any, key: Key) -> str:
    if key.items or key.length is not None:
        count = len(key.items) if key.items else key.length
        if len(values) != count:
            return may_be(key)
    of = key.items or ([key.each] * len(values) if key.each else [])
    if any(_problem(value, one) for value, one in zip(values, of, strict=bool(of))):
        return may_be(key)
    if key.rising:
        pairs = list(itertools.pairwise(values))
        strict = key.length != 2
        if any(b < a or (strict and b == a) for a, b in pairs):
            return may_be(key)
    return ""


def _is_a(value: Any, key: Key) -> bool:
    default = key.default
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, int):
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(default, float):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return isinstance(value, int) or math.isfinite(value)
    return isinstance(value, tuple | list if isinstance(default, tuple) else str)


def _same(value: Any, choice: Any) -> bool:
    if isinstance(choice, tuple) and isinstance(value, list):
        value = tuple(value)
    both = (type(value), type(choice))
    return (both[0] is both[1] or both == (int, float)) and bool(value == choice)


def _kind(key: Key) -> str:
    default = key.default
    if isinstance(default, bool):
        return "true or false"
    if isinstance(default, int):
        return "an odd integer" if key.odd else "an integer"
    if isinstance(default, float):
        return "a number"
    if not isinstance(default, tuple):
        return "a regular expression" if key.pattern else "a text"
    if key.items:
        return f"({', '.join(may_be(one) for one in key.items)})"
    held = _plural(may_be(key.each)) if key.each else "values"
    if key.rising and key.length == 2:
        return f"a rising range (low, high) of {held}"
    count = "" if key.length is None else f"{key.length} "
    return f"a {'rising ' if key.rising else ''}tuple of {count}{held}"


def _plural(words: str) -> str:
    for one in ("an integer", "an odd integer", "a number", "a text"):
        if words.startswith(one):
            return f"{one.split(' ', 1)[1]}s{words.removeprefix(one)}"
    return words


def _limits(key: Key) -> str:
    if key.least is not None and key.most is not None:
        return f"from {_number(key.least)} to {_number(key.most)}"
    parts = [
        f"{word} {_number(limit)}"
        for word, limit in (
            ("at least", key.least),
            ("above", key.above),
            ("at most", key.most),
            ("below", key.below),
        )
        if limit is not None
    ]
    return " and ".join(parts)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _listed(choices: tuple[Any, ...]) -> str:
    words = [(choice or '""') if isinstance(choice, str) else str(choice) for choice in choices]
    if len(words) == 1:
        return words[0]
    return f"one of {', '.join(words)}" if len(words) > 2 else " or ".join(words)
