"""AttnGAN's text encoders (DAMSM, Xu et al. 2018), as DF-GAN, SSA-GAN and others use them.

Their state dict, RNN_ENCODER's, is that of one bidirectional LSTM layer and its table of word
vectors. Ours is `jaxgen.nn.text.LSTMEncoder` with the same width. What differs:

- PyTorch stacks the four gates in one array and has two biases (`jaxgen.nn.text_keys`);
- word 0 of the published vocabulary, `<end>`, also fills up short texts; then come the words. Our
  ids 1 and 2, `<start>` and `<unk>`, are not among them: `<start>` becomes a vector of zeros and
  `<unk>` the mean of the words' vectors. Both are left out on the way back.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.nn.text import LSTMEncoder
from jaxgen.nn.text_keys import lstm_rules, split_gates
from jaxgen.weights import Rule, Tree, convert
from jaxgen.weights.keymap import Transform

ARCH = "text"  # the net's name: a file of ours serves `train.init_from.text`


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
    return convert(split_gates(tensors), torch_rules(), expected)


def torch_rules() -> list[Rule]:
    """The key map, from a state dict whose gates are apart; see `jaxgen.nn.text_keys`."""
    return [
        Rule("encoder.weight", "params/tokens", _TABLE),
        *lstm_rules("rnn", "params/forward"),
        *lstm_rules("rnn", "params/backward", reverse=True),
    ]


def _with_start_and_unknown(table: np.ndarray) -> np.ndarray:
    zeros = np.zeros_like(table[:1])
    mean = table[1:].mean(axis=0, keepdims=True, dtype=np.float32).astype(table.dtype)
    return np.concatenate([table[:1], zeros, mean, table[1:]])


_TABLE = Transform(
    _with_start_and_unknown, lambda table: np.concatenate([table[:1], table[3:]]), ndim=2
)
