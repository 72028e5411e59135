"""The networks of the comparisons in PyTorch, under the names of their published weights.

Pictures are (b, 3, h, w) in [-1, 1], as jaxgen's are (b, h, w, 3); a network that works in [0, 1]
converts inside, as jaxgen's does.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate, leaky_relu, relu


def load(net: nn.Module, path: Path) -> nn.Module:
    """Puts the arrays of an .npz file into the network; each of its tensors must be there."""
    with np.load(path) as arrays:
        own = [key for key in net.state_dict() if not key.endswith("num_batches_tracked")]
        state = {key: torch.tensor(arrays[key]) for key in own}
    net.load_state_dict(state, strict=False)
    return net


def conv(c: int, n: int, kernel: int = 3, **settings: Any) -> nn.Conv2d:
    """A convolution that keeps the size."""
    return nn.Conv2d(c, n, kernel, 1, kernel // 2, **settings)


# ------------------------------------------------------------------------------- super-resolution


class _ResidualBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rcb = nn.Sequential(
            conv(64, 64), nn.BatchNorm2d(64), nn.PReLU(64), conv(64, 64), nn.BatchNorm2d(64)
        )

    def forward(self, x):
        return x + self.rcb(x)


class _UpStage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.upsample_block = nn.Sequential(conv(64, 256), nn.PixelShuffle(2), nn.PReLU(64))

    def forward(self, x):
        return self.upsample_block(x)


class SRResNet(nn.Module):
    """The paper's SRResNet, x4."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(conv(3, 64, 9), nn.PReLU(64))
        self.trunk = nn.Sequential(*(_ResidualBlock() for _ in range(16)))
        self.conv2 = nn.Sequential(conv(64, 64), nn.BatchNorm2d(64))
        self.upsampling = nn.Sequential(_UpStage(), _UpStage())
        self.conv3 = conv(64, 3, 9)

    def forward(self, x):
        x = self.conv1(x)
        return self.conv3(self.upsampling(x + self.conv2(self.trunk(x))))


class _DenseBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        for k in range(1, 6):
            self.add_module(f"conv{k}", conv(64 + 32 * (k - 1), 32 if k < 5 else 64))

    def forward(self, x):
        seen = [x]
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen.append(leaky_relu(layer(torch.cat(seen, 1)), 0.2, inplace=True))
        return x + 0.2 * self.conv5(torch.cat(seen, 1))


class _DenseBlocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = _DenseBlock(), _DenseBlock(), _DenseBlock()

    def forward(self, x):
        return x + 0.2 * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    """ESRGAN's generator, x4, 23 blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_first = conv(3, 64)
        self.body = nn.Sequential(*(_DenseBlocks() for _ in range(23)))
        self.conv_body = conv(64, 64)
        self.conv_up1, self.conv_up2 = conv(64, 64), conv(64, 64)
        self.conv_hr, self.conv_last = conv(64, 64), conv(64, 3)

    def forward(self, x):
        x = self.conv_first((x + 1) / 2)
        x = x + self.conv_body(self.body(x))
        for up in (self.conv_up1, self.conv_up2):
            x = leaky_relu(up(interpolate(x, scale_factor=2, mode="nearest")), 0.2, inplace=True)
        return 2 * self.conv_last(leaky_relu(self.conv_hr(x), 0.2, inplace=True)) - 1


class SRVGGNetCompact(nn.Module):
    """Real-ESRGAN's small generator, x4, 16 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv(3, 64), nn.PReLU(64)]
        for _ in range(16):
            layers += [conv(64, 64), nn.PReLU(64)]
        self.body = nn.Sequential(*layers, conv(64, 48))

    def forward(self, x):
        x = (x + 1) / 2
        y = nn.functional.pixel_shuffle(self.body(x), 4)
        return 2 * (y + interpolate(x, scale_factor=4, mode="nearest")) - 1


class _Separable(nn.Module):
    def __init__(self, c: int, n: int, kernel: int, bias: bool) -> None:
        super().__init__()
        self.depthwise = conv(c, c, kernel, groups=c, bias=bias)
        self.pointwise = nn.Conv2d(c, n, 1, bias=bias)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


class _SwiftConv(nn.Module):
    """Convolution, BatchNorm and slopes, of which some are never used, as in the original."""

    def __init__(self, c: int, kernel: int = 3, norm: bool = True, act: bool = True) -> None:
        super().__init__()
        self.cnn = _Separable(c, 64, kernel, bias=not norm)
        self.bn = nn.BatchNorm2d(64) if norm else nn.Identity()
        self.act = nn.PReLU(64)
        self.used = act

    def forward(self, x):
        x = self.bn(self.cnn(x))
        return self.act(x) if self.used else x


class _SwiftBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block1, self.block2 = _SwiftConv(64), _SwiftConv(64, act=False)

    def forward(self, x):
        return x + self.block2(self.block1(x))


class _SwiftUp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = _Separable(64, 256, 3, bias=True), nn.PReLU(64)

    def forward(self, x):
        return self.act(nn.functional.pixel_shuffle(self.conv(x), 2))


class SwiftGenerator(nn.Module):
    """Swift-SRGAN's generator, x4."""

    def __init__(self) -> None:
        super().__init__()
        self.initial = _SwiftConv(3, 9, norm=False)
        self.residual = nn.Sequential(*(_SwiftBlock() for _ in range(16)))
        self.convblock = _SwiftConv(64, act=False)
        self.upsampler = nn.Sequential(_SwiftUp(), _SwiftUp())
        self.final_conv = _Separable(64, 3, 9, bias=True)

    def forward(self, x):
        x = self.initial((x + 1) / 2)
        # The original's (tanh + 1) / 2 in [0, 1] is tanh itself in [-1, 1].
        return self.final_conv(self.upsampler(x + self.convblock(self.residual(x)))).tanh()


# ---------------------------------------------------------------------------------------- DF-GAN


class _Mlp(nn.Module):
    def __init__(self, condition: int, c: int) -> None:
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(condition, c), nn.Linear(c, c)

    def forward(self, s):
        return self.linear2(relu(self.linear1(s)))[:, :, None, None]


class _Affine(nn.Module):
    def __init__(self, condition: int, c: int) -> None:
        super().__init__()
        self.fc_gamma, self.fc_beta = _Mlp(condition, c), _Mlp(condition, c)

    def forward(self, x, s):
        return leaky_relu(x * self.fc_gamma(s) + self.fc_beta(s), 0.2)


class _Fuse(nn.Module):
    def __init__(self, condition: int, c: int) -> None:
        super().__init__()
        self.affine0, self.affine1 = _Affine(condition, c), _Affine(condition, c)

    def forward(self, x, s):
        return self.affine1(self.affine0(x, s), s)


class _Up(nn.Module):
    def __init__(self, condition: int, c: int, n: int) -> None:
        super().__init__()
        self.fuse1, self.fuse2 = _Fuse(condition, c), _Fuse(condition, n)
        self.c1, self.c2 = conv(c, n), conv(n, n)
        self.c_sc = nn.Conv2d(c, n, 1) if c != n else nn.Identity()

    def forward(self, x, s):
        x = interpolate(x, scale_factor=2)
        return self.c_sc(x) + self.c2(self.fuse2(self.c1(self.fuse1(x, s)), s))


class DFGenerator(nn.Module):
    """DF-GAN's generator of 2022 for 64 pixels: z (b, noise), sentence (b, e) -> pictures."""

    def __init__(self, features: int, sentence: int, noise: int) -> None:
        super().__init__()
        widths = _widths(features)
        self.fc = nn.Linear(noise, 16 * widths[0])
        pairs = itertools.pairwise(widths)
        self.GBlocks = nn.ModuleList([_Up(noise + sentence, c, n) for c, n in pairs])
        self.to_rgb = nn.Sequential(nn.LeakyReLU(0.2), conv(widths[-1], 3))

    def forward(self, z, s):
        y = self.fc(z).view(len(z), -1, 4, 4)
        both = torch.cat([z, s], 1)
        for block in self.GBlocks:
            y = block(y, both)
        return torch.tanh(self.to_rgb(y))


class _Down(nn.Module):
    def __init__(self, c: int, n: int) -> None:
        super().__init__()
        self.conv_r = nn.Sequential(
            nn.Conv2d(c, n, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2),
            conv(n, n, bias=False),
            nn.LeakyReLU(0.2),
        )
        self.conv_s = nn.Conv2d(c, n, 1) if c != n else nn.Identity()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return avg_pool2d(self.conv_s(x), 2) + self.gamma * self.conv_r(x)


class _Features(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv_img = conv(3, features)
        wide = _widths(features)
        down = [*wide[:0:-1], wide[0]]  # from full size to 8 pixels, then 4
        self.DBlocks = nn.Sequential(*(_Down(c, n) for c, n in itertools.pairwise(down)))

    def forward(self, x):
        return self.DBlocks(self.conv_img(x))


class _Judge(nn.Module):
    def __init__(self, features: int, sentence: int) -> None:
        super().__init__()
        self.joint_conv = nn.Sequential(
            conv(_widths(features)[0] + sentence, 2 * features, bias=False),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * features, 1, 4, bias=False),
        )

    def forward(self, x, s):
        s = s[:, :, None, None].expand(-1, -1, 4, 4)
        return self.joint_conv(torch.cat([x, s], 1)).flatten()


class DFDiscriminator(nn.Module):
    """DF-GAN's discriminator of 2022 for 64 pixels: features of pictures, and their judge."""

    def __init__(self, features: int, sentence: int) -> None:
        super().__init__()
        self.netD, self.netC = _Features(features), _Judge(features, sentence)

    def forward(self, x, s):
        return self.netC(self.netD(x), s)


def _widths(features: int) -> list[int]:
    """Channels at 4, 8, 16, 32 and 64 pixels."""
    return [8 * features, 8 * features, 4 * features, 2 * features, features]
