"""How google/tirg names its weights."""

from __future__ import annotations

from jaxgen.encoders import resnet
from jaxgen.nn.text_keys import lstm_rules
from jaxgen.weights import CONV, DENSE, Rule, module_rules
from jaxgen.weights.layout import NORM_COUNTS, norm_rules

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
    return [
        Rule("text_model.embedding_layer.weight", f"{own}tokens"),
        *lstm_rules("text_model.lstm", f"{own}forward"),
        *module_rules("text_model.fc_output.1", f"{own}fc", DENSE),
    ]
