"""DINO's vision transformers (Caron et al. 2021, arXiv 2104.14294), frozen: ViT-S and ViT-B, NHWC.

Self-supervised; the keys of their last block say where parts of a picture are alike, whatever their
colours, which the structure distance compares (`jaxgen.metrics.structure`). Parameters are a plain
dict {"patch", "cls", "places", "block_0": {"norm1", "qkv", "proj", "norm2", "fc1", "fc2"}, ...,
"norm"}; all sizes are seen from it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import weights as weights_lib
from jaxgen.encoders import files
from jaxgen.errors import UserError
from jaxgen.nn.attention import attention

ARCH = "dino_vit"
HEAD = 64  # features of each head, of all that are published
_LayerNorm = partial(nn.LayerNorm, epsilon=1e-6)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); the exact GELU."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(b, n, width) -> the same shape, and the keys (b, n, width), head after head."""
        b, n, width = x.shape
        qkv = nn.Dense(3 * width, name="qkv")(_LayerNorm(name="norm1")(x))
        q, k, v = jnp.moveaxis(qkv.reshape(b, n, 3, width // HEAD, HEAD), 2, 0)
        x = x + nn.Dense(width, name="proj")(attention(q, k, v).reshape(b, n, width))
        y = nn.Dense(4 * width, name="fc1")(_LayerNorm(name="norm2")(x))
        x = x + nn.Dense(width, name="fc2")(nn.gelu(y, approximate=False))
        return x, k.reshape(b, n, width)


class VisionTransformer(nn.Module):
    """21,665,664 parameters as ViT-S/16, 85,807,872 as ViT-B/8.

    Attributes:
      width: of the features, a multiple of 64.
      depth: blocks.
      patch: side of the squares that become tokens.
      side: of the pictures, a multiple of `patch`.
    """

    width: int
    depth: int
    patch: int
    side: int

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        """(b, side, side, 3) float32, as torchvision normalises.

        Returns: {"tokens", "keys"}, each (b, 1 + (side / patch)^2, width), the picture's own token
          first: what comes out, and the keys of the last block.
        """
        squares = (self.patch, self.patch)
        x = nn.Conv(self.width, squares, squares, "VALID", name="patch")(x)
        x = x.reshape(len(x), -1, self.width)
        zeros = nn.initializers.zeros
        cls = self.param("cls", zeros, (self.width,), jnp.float32)
        places = self.param("places", zeros, (1 + x.shape[1], self.width), jnp.float32)
        first = jnp.broadcast_to(cls, (len(x), 1, self.width))
        x = keys = jnp.concatenate([first, x], axis=1) + places[None]
        for i in range(self.depth):
            x, keys = Block(self.width, name=f"block_{i}")(x)
        return {"tokens": _LayerNorm(name="norm")(x), "keys": keys}


def features(params: Mapping[str, Any], x: jax.Array) -> dict[str, jax.Array]:
    """See `VisionTransformer`; what is not used of the result is not computed under `jax.jit`.

    Args:
      params: from `load` or `from_torch`.
      x: (b, side, side, 3), normalised (`vgg.prepare`'s "imagenet"); `module_of(params).side`.
    """
    found: Any = module_of(params).apply({"params": params}, x)
    return found


def module_of(params: Mapping[str, Any]) -> VisionTransformer:
    """The module that whole parameters belong to."""
    patch, width = params["patch"]["kernel"].shape[0], params["cls"].shape[0]
    depth = sum(name.startswith("block_") for name in params)
    return VisionTransformer(width, depth, patch, patch * round((len(params["places"]) - 1) ** 0.5))


# --------------------------------------------------------------------------------------- weights


def expected_params(
    width: int = 768, depth: int = 12, patch: int = 8, side: int = 224
) -> dict[str, Any]:
    """The parameter tree as shapes and dtypes, ViT-B/8's by default; computes nothing."""
    net = VisionTransformer(width, depth, patch, side)
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return jax.eval_shape(lambda x: net.init(jax.random.key(0), x), x)["params"]


def torch_rules() -> list[weights_lib.Rule]:
    """DINO's own keys, for every size."""
    block = "blocks.{i}"
    rules = [
        weights_lib.Rule("cls_token", "cls", _leading(2)),
        weights_lib.Rule("pos_embed", "places", _leading(1)),
        *weights_lib.module_rules("patch_embed.proj", "patch"),
        *weights_lib.scale_rules("norm", "norm"),
    ]
    for name in ("norm1", "norm2"):
        rules += weights_lib.scale_rules(f"{block}.{name}", f"block_{{i}}/{name}")
    for theirs in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
        ours = f"block_{{i}}/{theirs.partition('.')[2]}"
        rules += weights_lib.module_rules(f"{block}.{theirs}", ours, weights_lib.DENSE)
    return rules


def _leading(count: int) -> weights_lib.Transform:
    """(1, ..., a) <-> (a) with so many axes of one less."""
    ones = (1,) * count
    return weights_lib.Transform(
        lambda a: a.reshape(a.shape[count:]) if a.shape[:count] == ones else a,
        lambda a: a.reshape(ones + a.shape),
        ndim=3,
    )


def fits(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether a state dict is a vision transformer's under DINO's keys or transformers'."""
    tensors = published(tensors)
    return {"cls_token", "blocks.0.attn.qkv.weight"} <= tensors.keys()


def from_torch(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """DINO's state dict, or transformers' `ViTModel`'s -> parameters. Sizes are seen from it.

    Raises:
      UserError: another network; or names every missing, extra or misshapen key, under DINO's keys.
    """
    tensors = published(tensors)
    try:
        width, patch = tensors["patch_embed.proj.weight"].shape[::3]
        places = tensors["pos_embed"].shape[1] - 1
    except (LookupError, ValueError):
        raise UserError(
            f"no DINO ViT: patch_embed.proj.weight or pos_embed is missing; {WHERE}"
        ) from None
    blocks = [re.match(r"blocks\.(\d+)\.", key) for key in tensors]
    depth = len({found[1] for found in blocks if found})
    if width % HEAD or round(places**0.5) ** 2 != places:
        raise UserError(f"no DINO ViT: {width} features, {places} places; {WHERE}")
    expected = expected_params(width, depth, patch, patch * round(places**0.5))
    return weights_lib.convert(tensors, torch_rules(), expected)


# transformers' name of a block's part -> DINO's.
_PARTS = {
    "layernorm_before": "norm1", "layernorm_after": "norm2", "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2",
}  # fmt: skip
_REST = {
    "embeddings.cls_token": "cls_token", "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight", "layernorm.bias": "norm.bias",
}  # fmt: skip
_BLOCK = re.compile(r"encoder\.layer\.(\d+)\.(.+)\.(weight|bias)")


def published(tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """transformers' keys as DINO's; others as they are.

    Queries, keys and values become one layer. The pooler, which DINO has not, is left out.
    """
    if "embeddings.cls_token" not in tensors:
        return tensors
    found: dict[str, np.ndarray] = {}
    parts: dict[str, dict[str, np.ndarray]] = {}
    for key, value in tensors.items():
        block = _BLOCK.fullmatch(key)
        last = block and block[2].removeprefix("attention.attention.")
        if block and last in ("query", "key", "value"):
            parts.setdefault(f"blocks.{block[1]}.attn.qkv.{block[3]}", {})[last] = value
        elif block and block[2] in _PARTS:
            found[f"blocks.{block[1]}.{_PARTS[block[2]]}.{block[3]}"] = value
        elif not key.startswith("pooler."):
            found[_REST.get(key, key)] = value
    for key, part in parts.items():
        found[key] = np.concatenate(
            [part[name] for name in ("query", "key", "value") if name in part]
        )
    return found


WHERE = (
    "it takes dino_vitbase8_pretrain.pth, or another backbone of DINO's releases, or the "
    "model.safetensors of transformers' facebook/dino-vitb8"
)


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads weights: published ones, or what `jaxgen convert` made of them.

    Raises:
      UserError: no such file, or none of such weights.
    """
    tensors = weights_lib.read_tensors(path)
    own = files.own_tensors(tensors, ARCH)
    if own is not None:
        tensors = weights_lib.to_torch(own, torch_rules())
    return from_torch(tensors)
