"""Key maps: published weights become our trees, and go back, by one two-way table.

Published PyTorch weights become our parameter trees through a list of `Rule`s, each a pair of
templates such as `Rule("body.{i}.conv.weight", "params/body_{i}/conv/kernel", CONV)`. The same
list read backwards (`to_torch`) gives a state dict that PyTorch loads.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxgen.errors import UserError

Tree = Mapping[str, Any]
Tensors = dict[str, np.ndarray]


def flatten(tree: Tree) -> dict[str, Any]:
    """{"g": {"params": {"kernel": a}}} -> {"g/params/kernel": a}; empty dicts are left out."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}/{path}": leaf for path, leaf in flatten(value).items()}
        else:
            flat[key] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"g/params/kernel": a} -> {"g": {"params": {"kernel": a}}}: the inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *parents, last = path.split("/")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = leaf
    return tree


@dataclasses.dataclass(frozen=True)
class Transform:
    """A change of layout and its inverse; `ndim` is the rank it takes (None: any)."""

    to_jax: Callable[[np.ndarray], np.ndarray]
    to_torch: Callable[[np.ndarray], np.ndarray]
    ndim: int | None = None


NONE = Transform(lambda a: a, lambda a: a)
# (out, in/groups, h, w) <-> (h, w, in/groups, out); depthwise and grouped convolutions too.
CONV = Transform(lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1), ndim=4)
# (out, in) <-> (in, out)
DENSE = Transform(lambda a: a.T, lambda a: a.T, ndim=2)


def dense_after_flatten(height: int, width: int, channels: int) -> Transform:
    """DENSE for a layer that follows a flattened image: torch flattens (c, h, w), we (h, w, c)."""

    def to_jax(a: np.ndarray) -> np.ndarray:  # (out, c*h*w) -> (h*w*c, out)
        split = a.reshape(a.shape[0], channels, height, width)
        return split.transpose(2, 3, 1, 0).reshape(-1, a.shape[0])

    def to_torch(a: np.ndarray) -> np.ndarray:  # (h*w*c, out) -> (out, c*h*w)
        split = a.reshape(height, width, channels, a.shape[1])
        return split.transpose(3, 2, 0, 1).reshape(a.shape[1], -1)

    return Transform(to_jax, to_torch, ndim=2)


@dataclasses.dataclass(frozen=True)
class Rule:
    """One line of a key map: a PyTorch key, the path in our tree, and the change of layout.

    source, target: templates; `{name}` stands for a number (one or more digits), the same number
      on both sides. The first rule that fits a key is used, in both directions.
    target None: the tensor is known and not needed. There, and only there, `*` in `source` stands
      for any text ("*.num_batches_tracked").
    zeros: with target None: the tensor's shape; it goes back as zeros. For layers that a published
      network has but never uses.
    """

    source: str
    target: str | None
    transform: Transform = NONE
    zeros: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.target is None:
            return
        if "*" in self.source:
            raise ValueError(f"{self.source}: '*' is for tensors that are left out")
        if _fields(self.source) != _fields(self.target):
            raise ValueError(f"{self.source} -> {self.target}: the numbered fields differ")


def module_rules(source: str, target: str, transform: Transform = CONV) -> list[Rule]:
    """The two rules of a layer with weight and bias: convolution (default) or dense."""
    return [
        Rule(f"{source}.weight", f"{target}/kernel", transform),
        Rule(f"{source}.bias", f"{target}/bias"),
    ]


def scale_rules(source: str, target: str) -> list[Rule]:
    """The two rules of a normalisation with scale and bias, and nothing else: layer or group."""
    return [Rule(f"{source}.weight", f"{target}/scale"), Rule(f"{source}.bias", f"{target}/bias")]


def convert(tensors: Mapping[str, np.ndarray], rules: Sequence[Rule], expected: Tree) -> dict:
    """PyTorch tensors -> our tree, complete and of the right shapes, or one error that lists all.

    Args:
      tensors: what `read_tensors` gave.
      rules: the key map.
      expected: nested dict whose leaves have `shape` and `dtype` (`jax.eval_shape` of the init).

    Returns: nested dict of NumPy arrays like `expected`, in its dtypes.

    Raises:
      UserError: names every missing, extra and misshapen key at once.
    """
    found, problems = _fit(tensors, rules, expected)
    _report("weights do not fit", **problems)
    return unflatten({path: found[path] for path in flatten(expected)})


def located(key: str, rules: Sequence[Rule]) -> tuple[str, Transform] | None:
    """(path in our tree, change of layout) of a PyTorch key; None if no rule takes it."""
    rule, target = _match(key, rules, forward=True)
    return None if rule is None or target is None else (target, rule.transform)


def source_of(path: str, rules: Sequence[Rule]) -> str | None:
    """The PyTorch key of a path in our tree; None if no rule gives it."""
    return _match(path, rules, forward=False)[1]


def misfits(tensors: Mapping[str, np.ndarray], rules: Sequence[Rule], expected: Tree) -> int:
    """How many keys are missing, extra or misshapen; 0: `convert` takes them."""
    return sum(map(len, _fit(tensors, rules, expected)[1].values()))


def _fit(
    tensors: Mapping[str, np.ndarray], rules: Sequence[Rule], expected: Tree
) -> tuple[Tensors, dict[str, list[str]]]:
    """Our arrays by path, and what is wrong: "missing", "extra", "misshapen" keys."""
    want = flatten(expected)
    found: Tensors = {}
    extra: list[str] = []
    misshapen: list[str] = []
    for key, tensor in tensors.items():
        rule, target = _match(key, rules, forward=True)
        if rule is not None and target is None:
            continue
        if rule is None or target not in want or target in found:
            extra.append(key)
            continue
        found[target] = tensor
        if rule.transform.ndim not in (None, tensor.ndim):
            misshapen.append(f"{key} {tensor.shape} has not {rule.transform.ndim} dimensions")
            continue
        try:
            array = rule.transform.to_jax(tensor)
        except ValueError:  # dense_after_flatten of another size
            misshapen.append(f"{key} {tensor.shape} does not fit {target} {want[target].shape}")
            continue
        if array.shape != tuple(want[target].shape):
            misshapen.append(
                f"{key} {tensor.shape} gives {array.shape} where {target} is {want[target].shape}"
            )
            continue
        found[target] = np.ascontiguousarray(array.astype(want[target].dtype)).reshape(array.shape)
    sources = {p: _match(p, rules, forward=False)[1] for p in want if p not in found}
    missing = [f"{source or 'no rule'} (for {path})" for path, source in sources.items()]
    return found, {"missing": missing, "extra": extra, "misshapen": misshapen}


def to_torch(tree: Tree, rules: Sequence[Rule]) -> Tensors:
    """Our tree -> PyTorch's keys and layouts: the inverse of `convert` with the same rules.

    Raises:
      UserError: names every path of the tree that no rule covers.
    """
    tensors: Tensors = {}
    uncovered = []
    for path, value in flatten(tree).items():
        rule, key = _match(path, rules, forward=False)
        if rule is None or key is None:
            uncovered.append(path)
            continue
        tensors[key] = np.asarray(rule.transform.to_torch(np.asarray(value)), order="C")
    _report("the key map has no line for some parameters", uncovered=uncovered)
    tensors |= {rule.source: np.zeros(rule.zeros, np.float32) for rule in rules if rule.zeros}
    return tensors


def _report(summary: str, **problems: list[str]) -> None:
    texts = [
        f"{len(items)} {name}: {', '.join(_grouped(items))}"
        for name, items in problems.items()
        if items
    ]
    if texts:
        raise UserError(f"{summary}: {'; '.join(texts)}")


# So many keys are listed one by one; of more, those that differ by numbers only come as one.
LISTED = 20


def _grouped(texts: Sequence[str]) -> list[str]:
    """["a.0.w", "a.1.w", ...] -> ["a.{0..22}.w"] where there are many; nothing is left out."""
    if len(texts) <= LISTED:
        return list(texts)
    groups: dict[tuple[str, ...], list[tuple[int, ...]]] = {}
    for text in texts:
        parts = re.split(r"(\d+)", text)
        groups.setdefault(tuple(parts[::2]), []).append(tuple(map(int, parts[1::2])))
    result = []
    for words, rows in groups.items():
        columns = list(zip(*rows, strict=True))
        different = set(columns)  # a number that comes twice in a text counts once
        if len(set(rows)) == math.prod(len(set(column)) for column in different):
            fields = [[_span(column) for column in columns]]
        else:
            fields = [[str(number) for number in row] for row in rows]
        result += ["".join(_alternate(words, numbers)) for numbers in fields]
    return result


def _span(numbers: Iterable[int]) -> str:
    """ "7", "{0..22}" or "{0,2,4}" of the numbers that there are."""
    found = sorted(set(numbers))
    if len(found) == 1:
        return str(found[0])
    if found == list(range(found[0], found[-1] + 1)):
        return f"{{{found[0]}..{found[-1]}}}"
    return f"{{{','.join(map(str, found))}}}"


def _alternate(words: Sequence[str], numbers: Sequence[str]) -> list[str]:
    return [x for pair in zip(words, [*numbers, ""], strict=True) for x in pair]


def _fields(template: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", template))


@functools.cache
def template_pattern(template: str) -> re.Pattern[str]:
    """Of the keys that a rule's template stands for; its fields are groups of their names."""
    parts = re.split(r"(\{\w+\}|\*)", template)
    seen: set[str] = set()
    regex = ""
    for part in parts:
        if part == "*":
            regex += ".*"
        elif part.startswith("{") and part[1:-1] in seen:
            regex += f"(?P={part[1:-1]})"
        elif part.startswith("{"):
            regex += rf"(?P<{part[1:-1]}>\d+)"
            seen.add(part[1:-1])
        else:
            regex += re.escape(part)
    return re.compile(regex)


def _match(key: str, rules: Sequence[Rule], *, forward: bool) -> tuple[Rule | None, str | None]:
    """The first rule that fits `key` and what `key` becomes under it (None: left out)."""
    for rule in rules:
        have, give = (rule.source, rule.target) if forward else (rule.target, rule.source)
        if have is not None and (match := template_pattern(have).fullmatch(key)):
            return rule, None if give is None else give.format(**match.groupdict())
    return None, None
