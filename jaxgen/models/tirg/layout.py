"""How google/tirg names its weights, and how torch's LSTM becomes ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from jaxgen.encoders import resnet
from jaxgen.weights import CONV, DENSE, Rule, Tensors, module_rules
from jaxgen.weights.layout import NORM_COUNTS, norm_rules

GATES = "ifgo"  # in PyTorch's order
_STACKED = re.compile(r"(.*lstm\.)(weight_ih|weight_hh|bias_ih|bias_hh)_l0")
# By composition, below "composer": (their key, ours, what it is).
_COMPOSERS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "image": (),
    "concat": (
        ("composer.m.0", "norm1", "norm"), ("composer.m.2", "hidden", "dense"),
        ("composer.m.3", "norm2", "norm"), ("composer.m.6", "out", "dense"),
    ),
    "tirg": (
        ("gated_feature_composer.1", "gate_norm", "norm"),
        ("gated_feature_composer.3", "gate_out", "dense"),
        ("res_info_composer.1", "rest_norm", "norm"),
        ("res_info_composer.3", "rest_hidden", "dense"),
        ("res_info_composer.5", "rest_out", "dense"),
    ),
    "tirg_lastconv": (
        ("mod2d_gate.0", "gate_norm", "norm"), ("mod2d_gate.1", "gate_hidden", "conv"),
        ("mod2d_gate.3", "gate_out", "conv"),
        ("mod2d.0", "rest_norm", "norm"), ("mod2d.1", "rest_hidden", "conv"),
        ("mod2d.3", "rest_out", "conv"),
    ),
}  # fmt: skip
# A key that tells the composition; without one it is the picture or the text alone.
TELLING = {
    "tirg": "gated_feature_composer.1.weight",
    "tirg_lastconv": "mod2d.0.weight",
    "concat": "composer.m.0.weight",
}


def tirg_rules(form: str) -> list[Rule]:
    """The key map of a composition, from a state dict whose gates are apart."""
    rules = [Rule("normalization_layer.norm_s", "params/scale")]
    for source, name, kind in _COMPOSERS["image" if form == "text" else form]:
        if kind == "norm":
            rules += norm_rules(source, f"composer/{name}")
        else:
            transform = CONV if kind == "conv" else DENSE
            rules += module_rules(source, f"params/composer/{name}", transform)
    if form in ("tirg", "tirg_lastconv"):
        rules.append(Rule("a", "params/composer/a"))
    rules += module_rules("img_model.fc.0", "params/image/fc", DENSE)
    for rule in resnet.torch_rules():
        if rule.target is not None and not rule.source.startswith("fc."):
            collection, _, path = rule.target.partition("/")
            target = f"{collection}/image/trunk/{path}"
            rules.append(Rule(f"img_model.{rule.source}", target, rule.transform))
    return [*rules, *text_rules("text/"), NORM_COUNTS]


def text_rules(ours: str) -> list[Rule]:
    """Of the text encoder, below `ours` in our tree."""
    own = f"params/{ours}"
    rules = [Rule("text_model.embedding_layer.weight", f"{own}tokens")]
    for gate in GATES:
        lstm = "text_model.lstm"
        rules += [
            Rule(f"{lstm}.weight_ih_l0.{gate}", f"{own}forward/i{gate}/kernel", DENSE),
            Rule(f"{lstm}.weight_hh_l0.{gate}", f"{own}forward/h{gate}/kernel", DENSE),
            Rule(f"{lstm}.bias_ih_l0.{gate}", f"{own}forward/h{gate}/bias"),
        ]
    return rules + module_rules("text_model.fc_output.1", f"{own}fc", DENSE)


def split_gates(tensors: Mapping[str, np.ndarray]) -> Tensors:
    """The LSTM's gates apart, and its two biases, which act as their sum, as that sum."""
    result: Tensors = {}
    for key, value in tensors.items():
        found = _STACKED.fullmatch(key)
        if found is None or len(value) % 4:
            result[key] = value
            continue
        if found[2] == "bias_hh":
            continue  # with the other
        if found[2] == "bias_ih":
            value = value + tensors.get(f"{found[1]}bias_hh_l0", np.zeros_like(value))
        for gate, part in zip(GATES, np.split(value, 4), strict=True):
            result[f"{key}.{gate}"] = part
    return result


def stack_gates(tensors: Mapping[str, np.ndarray]) -> Tensors:
    """The inverse of `split_gates`; the second bias is zero."""
    result: Tensors = {}
    stacked = set()
    for key, value in tensors.items():
        base, _, gate = key.rpartition(".")
        if gate in GATES and _STACKED.fullmatch(base):
            stacked.add(base)
        else:
            result[key] = value
    for base in sorted(stacked):
        result[base] = np.concatenate([tensors[f"{base}.{gate}"] for gate in GATES])
        if "bias_ih" in base:
            result[base.replace("bias_ih", "bias_hh")] = np.zeros_like(result[base])
    return result
