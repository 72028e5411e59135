"""RDN's weights under the keys of its common PyTorch ports.

The authors' code is Lua Torch. RDN-pytorch (yjn870) and MMEditing, which follows it, work in
[0, 1]; EDSR-PyTorch and the many projects made from it in [0, 255] unless told otherwise (its
flag `--rgb_range`), which the keys don't tell: `model.generator.value_range` is where to say so.
"""

from __future__ import annotations

import dataclasses

from ml_collections import ConfigDict

from jaxgen.models.rdn.generator import shuffles
from jaxgen.models.rdn.task import make_generator
from jaxgen.weights import Rule, Tree, module_rules
from jaxgen.weights.layout import Layout, Sizes, Tensors, config_of, count, shapes_of

_SIZES = ("scale", "features", "blocks", "layers", "growth", "up_features", "value_range")


@dataclasses.dataclass(frozen=True)
class _Keys:
    """A port's names: `layer` and `fusion` below a block, `up` and `out` by their index."""

    first: str
    second: str
    block: str
    layer: str
    fusion: str
    fusions: str
    up: str
    out: str | None  # None: the last of the `up` sequence
    value_range: float = 1.0

    def sizes(self, tensors: Tensors) -> Sizes | None:
        names = [f"{self.first}.weight", f"{self.up}.0.weight"]
        names.append(f"{self.block}.0.{self.layer.format(layer=0)}.weight")
        if any(name not in tensors or tensors[name].ndim != 4 for name in names):
            return None
        first, up, layer = (tensors[name].shape for name in names)
        block = f"{self.block}.{{block}}"
        stages = count(tensors, f"{self.up}.{{i}}.weight") // 2 + 1
        if self.out is None:
            stages -= 1
        # The convolution after the first shuffle tells how many channels that left.
        after = f"{self.up}.2.weight" if stages > 1 or self.out is None else f"{self.out}.weight"
        if after not in tensors or tensors[after].ndim != 4:
            return None
        up_features = tensors[after].shape[1]
        factor = round((up[0] / up_features) ** 0.5)
        return {
            "scale": factor**stages,
            "features": first[0],
            "blocks": count(tensors, f"{block}.", "block"),
            "layers": count(tensors, f"{block}.{self.layer}.", "layer"),
            "growth": layer[0],
            "up_features": up_features,
            "value_range": self.value_range,
        }

    def rules(self, sizes: Sizes) -> list[Rule]:
        stages = len(shuffles(sizes["scale"]))
        block = f"{self.block}.{{block}}"
        names = {
            self.first: "conv_0",
            self.second: "conv_1",
            f"{block}.{self.layer}": "rdb_{block}/layer_{layer}",
            f"{block}.{self.fusion}": "rdb_{block}/fusion",
            f"{self.fusions}.0": "fusion_0",
            f"{self.fusions}.1": "fusion_1",
            # Pixel shuffles stand between the convolutions.
            **{f"{self.up}.{2 * i}": f"up_{i}" for i in range(stages)},
            self.out or f"{self.up}.{2 * stages}": "conv_out",
        }
        return [
            r for source, target in names.items() for r in module_rules(source, f"params/{target}")
        ]

    def read(self, config: ConfigDict) -> Sizes | None:
        generator = make_generator(config)
        if generator.skip or generator.value_range != self.value_range:
            return None
        return {name: getattr(generator, name) for name in _SIZES}


def _config(sizes: Sizes) -> ConfigDict:
    sizes = dict(sizes)
    scale = sizes.pop("scale")
    return config_of("rdn", "generator", {**sizes, "skip": False, "remat": False}, scale=scale)


def _expected(config: ConfigDict) -> Tree:
    # No parameter depends on the picture's size.
    return shapes_of(make_generator(config))


def _layout(name: str, keys: _Keys) -> Layout:
    return Layout(name, "g", keys.sizes, _config, keys.read, keys.rules, _expected)


def _lower_case(prefix: str) -> _Keys:
    return _Keys(
        first=f"{prefix}sfe1",
        second=f"{prefix}sfe2",
        block=f"{prefix}rdbs",
        layer="layers.{layer}.conv",
        fusion="lff",
        fusions=f"{prefix}gff",
        up=f"{prefix}upscale",
        out=f"{prefix}output",
    )


_EDSR = _Keys(
    first="SFENet1",
    second="SFENet2",
    block="RDBs",
    layer="convs.{layer}.conv.0",
    fusion="LFF",
    fusions="GFF",
    up="UPNet",
    out=None,
    value_range=255.0,
)

LAYOUTS = (
    _layout("RDN-pytorch RDN", _lower_case("")),
    _layout("MMEditing RDN", _lower_case("generator.")),
    _layout("EDSR-PyTorch RDN", _EDSR),
)
