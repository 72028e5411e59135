"""AttnGAN's text encoders (DAMSM, Xu et al. 2018), as DF-GAN, SSA-GAN and others use them.

Their state dict, RNN_ENCODER's, is that of one bidirectional LSTM layer and its table of word
vectors. Ours is `jaxgen.nn.text.LSTMEncoder` with the same width. What differs:

- PyTorch stacks the four gates in one array, ours are arrays of their own;
- PyTorch has two biases per gate, which act as their sum: ours have the sum, and going back it is
  in bias_ih, and bias_hh is zero;
- word 0 of the published vocabulary, `<end>`, also fills up short texts; then come the words. Our
  ids 1 and 2, `<start>` and `<unk>`, are not among them: `<start>` becomes a vector of zeros and
  `<unk>` the mean of the words' vectors. Both are left out on the way back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.nn.text import LSTMEncoder
from jaxgen.weights import DENSE, Rule, Tensors, Tree, convert
from jaxgen.weights.keymap import Transform

ARCH = "text"  # the net's name: a file of ours serves `train.init_from.text`
_GATES = "ifgo"  # in PyTorch's order
_STACKED = re.compile(r"rnn\.(weight_ih|weight_hh|bias_ih|bias_hh)_l0(_reverse)?")


def fits(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether a state dict is of this kind: one layer in both directions."""
    keys = {"encoder.weight", "rnn.weight_ih_l0", "rnn.weight_hh_l0_reverse"}
    stacked = tensors.get("rnn.weight_ih_l0", np.zeros(1))
    table = tensors.get("encoder.weight", np.zeros(1))
    one_layer = "rnn.weight_ih_l1" not in tensors
    # A GRU, the other choice of the code, has three gates.
    lstm = stacked.ndim == 2 and "rnn.weight_hh_l0" in tensors and len(stacked) % 4 == 0
    return keys <= set(tensors) and one_layer and lstm and table.ndim == 2


def from_torch(tensors: Mapping[str, np.ndarray]) -> Tree:
    """Published state dict -> variables of an `LSTMEncoder`, {"params": ...}.

    Raises:
      UserError: names every missing, extra or misshapen key.
    """
    words, embedding = tensors["encoder.weight"].shape
    width = len(tensors["rnn.weight_ih_l0"]) // 2  # four gates, two directions
    module = LSTMEncoder(size=words + 2, width=width, embedding=embedding)
    expected = jax.eval_shape(
        module.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), bool)
    )
    return convert(_split(tensors), torch_rules(), expected)


def torch_rules() -> list[Rule]:
    """The key map, from a state dict whose gates are apart ("rnn.weight_ih_l0.i", ...)."""
    rules = [Rule("encoder.weight", "params/tokens", _TABLE)]
    for direction, end in (("forward", ""), ("backward", "_reverse")):
        for gate in _GATES:
            ours = f"params/{direction}"
            rules += [
                Rule(f"rnn.weight_ih_l0{end}.{gate}", f"{ours}/i{gate}/kernel", DENSE),
                Rule(f"rnn.weight_hh_l0{end}.{gate}", f"{ours}/h{gate}/kernel", DENSE),
                Rule(f"rnn.bias_ih_l0{end}.{gate}", f"{ours}/h{gate}/bias"),
            ]
    return rules


def _split(tensors: Mapping[str, np.ndarray]) -> Tensors:
    """The gates apart, the two biases as one."""
    result: Tensors = {}
    for key, value in tensors.items():
        found = _STACKED.fullmatch(key)
        if found is None or len(value) % 4:
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
        for gate, part in zip(_GATES, np.split(value, 4), strict=True):
            result[f"{key}.{gate}"] = part
    return result


def stack(tensors: Tensors) -> Tensors:
    """What `to_torch` gives by `torch_rules` -> the published state dict."""
    result = {"encoder.weight": tensors["encoder.weight"]}
    for end in ("", "_reverse"):
        for name in ("weight_ih", "weight_hh", "bias_ih"):
            key = f"rnn.{name}_l0{end}"
            result[key] = np.concatenate([tensors[f"{key}.{gate}"] for gate in _GATES])
        result[f"rnn.bias_hh_l0{end}"] = np.zeros_like(result[f"rnn.bias_ih_l0{end}"])
    return result


def _with_start_and_unknown(table: np.ndarray) -> np.ndarray:
    zeros = np.zeros_like(table[:1])
    mean = table[1:].mean(axis=0, keepdims=True, dtype=np.float32).astype(table.dtype)
    return np.concatenate([table[:1], zeros, mean, table[1:]])


_TABLE = Transform(
    _with_start_and_unknown, lambda table: np.concatenate([table[:1], table[3:]]), ndim=2
)
