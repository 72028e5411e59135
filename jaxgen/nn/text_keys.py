"""Key map of `jaxgen.nn.text.lstm`: one layer of PyTorch's LSTM, whose gates are stacked.

PyTorch has two biases per gate, which act as their sum: ours have the sum, and going back it is in
bias_ih, and bias_hh is zero.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from jaxgen.weights import DENSE, Rule, Tensors

_GATES = "ifgo"  # in PyTorch's order
_STACKED = re.compile(r"(?:.*\.)?(weight_ih|weight_hh|bias_ih|bias_hh)_l0(?:_reverse)?")


def lstm_rules(source: str, target: str, reverse: bool = False) -> list[Rule]:
    """Of one direction, from a state dict whose gates are apart ("lstm.weight_ih_l0.i", ...)."""
    end = "_reverse" if reverse else ""
    rules = []
    for gate in _GATES:
        rules += [
            Rule(f"{source}.weight_ih_l0{end}.{gate}", f"{target}/i{gate}/kernel", DENSE),
            Rule(f"{source}.weight_hh_l0{end}.{gate}", f"{target}/h{gate}/kernel", DENSE),
            Rule(f"{source}.bias_ih_l0{end}.{gate}", f"{target}/h{gate}/bias"),
        ]
    return rules


def split_gates(tensors: Mapping[str, np.ndarray]) -> Tensors:
    """The gates apart, the two biases as one; what is no LSTM's stays as it is."""
    result: Tensors = {}
    for key, value in tensors.items():
        found = _STACKED.fullmatch(key)
        if found is None or len(value) % len(_GATES):
            result[key] = value
            continue
        if found[1] == "bias_hh":
            continue  # with the other
        if found[1] == "bias_ih":
            other = tensors.get(key.replace("bias_ih", "bias_hh"))
            if other is None or other.shape != value.shape:
                result[key] = value  # which the key map does not know
                continue
            value = value + other
        for gate, part in zip(_GATES, np.split(value, len(_GATES)), strict=True):
            result[f"{key}.{gate}"] = part
    return result


def stack_gates(tensors: Mapping[str, np.ndarray]) -> Tensors:
    """The inverse of `split_gates`; the second bias is zero."""
    result: Tensors = {}
    stacked = set()
    for key, value in tensors.items():
        base, _, gate = key.rpartition(".")
        if gate in _GATES and _STACKED.fullmatch(base):
            stacked.add(base)
        else:
            result[key] = value
    for base in sorted(stacked):
        result[base] = np.concatenate([tensors[f"{base}.{gate}"] for gate in _GATES])
        if "bias_ih" in base:
            result[base.replace("bias_ih", "bias_hh")] = np.zeros_like(result[base])
    return result
