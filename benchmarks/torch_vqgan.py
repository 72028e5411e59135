"""VQGAN's networks in PyTorch, with taming-transformers' keys, for a training step to be timed."""

from __future__ import annotations

from torch import nn
from torch.nn import functional as F

from benchmarks.torch_nets import conv


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, 1e-6)


class Block(nn.Module):
    """Two convolutions beside the input, (b, c, h, w) -> (b, width, h, w)."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.norm1, self.conv1 = norm(channels), conv(channels, width)
        self.norm2, self.conv2 = norm(width), conv(width, width)
        if channels != width:
            self.nin_shortcut = conv(channels, width, 1)

    def forward(self, x):
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + y


class Attention(nn.Module):
    """One head over all places, beside the input."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = norm(channels)
        for name in ("q", "k", "v", "proj_out"):
            setattr(self, name, conv(channels, channels, 1))

    def forward(self, x):
        y = self.norm(x)
        q, k, v = (layer(y).flatten(2).mT[:, None] for layer in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v)[:, 0].mT.reshape(x.shape)
        return x + self.proj_out(y)


class Level(nn.Module):
    """A level's `block` and `attn`, and the change of side before the next."""

    def __init__(self, channels: int, width: int, blocks: int, attends: bool):
        super().__init__()
        into = [channels, *[width] * (blocks - 1)]
        self.block = nn.ModuleList(Block(c, width) for c in into)
        self.attn = nn.ModuleList(Attention(width) for _ in into if attends)

    def forward(self, x):
        for i, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[i](x)
        return x


class Down(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = conv(channels, channels)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Middle(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.block_1, self.attn_1 = Block(width, width), Attention(width)
        self.block_2 = Block(width, width)

    def forward(self, x):
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    def __init__(self, features: int, widths: tuple[int, ...], blocks: int, latent: int):
        super().__init__()
        sizes = [features * w for w in widths]
        self.conv_in = conv(3, features)
        self.down = nn.ModuleList()
        for i, (into, width) in enumerate(zip([features, *sizes], sizes, strict=False)):
            level = Level(into, width, blocks, i == len(sizes) - 1)
            if i < len(sizes) - 1:
                level.downsample = Down(width)
            self.down.append(level)
        self.mid = Middle(sizes[-1])
        self.norm_out, self.conv_out = norm(sizes[-1]), conv(sizes[-1], latent)

    def forward(self, x):
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
            if hasattr(level, "downsample"):
                x = level.downsample(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    def __init__(self, features: int, widths: tuple[int, ...], blocks: int, latent: int):
        super().__init__()
        sizes = [features * w for w in widths]
        self.conv_in = conv(latent, sizes[-1])
        self.mid = Middle(sizes[-1])
        levels, into = [], sizes[-1]
        for i in reversed(range(len(sizes))):
            level = Level(into, sizes[i], blocks + 1, i == len(sizes) - 1)
            if i:
                level.upsample = Up(sizes[i])
            levels.insert(0, level)
            into = sizes[i]
        self.up = nn.ModuleList(levels)
        self.norm_out, self.conv_out = norm(features * widths[0]), conv(into, 3)

    def forward(self, z):
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
            if hasattr(level, "upsample"):
                x = level.upsample(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Codebook(nn.Module):
    """Nearest codes, straight through; the loss weighs the encoder's pull by beta."""

    def __init__(self, codes: int, width: int, beta: float = 0.25):
        super().__init__()
        self.beta, self.embedding = beta, nn.Embedding(codes, width)

    def forward(self, z):
        rows = z.permute(0, 2, 3, 1)
        flat, table = rows.reshape(-1, rows.shape[-1]), self.embedding.weight
        far = flat.square().sum(1, keepdim=True) + table.square().sum(1) - 2 * flat @ table.T
        found = self.embedding(far.argmin(1)).view(rows.shape)
        loss = F.mse_loss(found, rows.detach()) + self.beta * F.mse_loss(rows, found.detach())
        return (rows + (found - rows).detach()).permute(0, 3, 1, 2), loss


class VQGAN(nn.Module):
    """Pictures (b, 3, h, w) -> (pictures, the codebook's loss)."""

    def __init__(self, features, widths, blocks, latent, codes, width):
        super().__init__()
        self.encoder = Encoder(features, widths, blocks, latent)
        self.decoder = Decoder(features, widths, blocks, latent)
        self.quantize = Codebook(codes, width)
        self.quant_conv = conv(latent, width, 1)
        self.post_quant_conv = conv(width, latent, 1)

    def forward(self, x):
        z, loss = self.quantize(self.quant_conv(self.encoder(x)))
        return self.decoder(self.post_quant_conv(z)), loss


class PatchGAN(nn.Module):
    """pix2pix's discriminator of N layers, as `main`."""

    def __init__(self, features: int, layers: int):
        super().__init__()
        parts = [nn.Conv2d(3, features, 4, 2, 1), nn.LeakyReLU(0.2)]
        into = features
        for i in range(1, layers + 1):
            width = features * min(2**i, 8)
            stride = 2 if i < layers else 1
            parts += [nn.Conv2d(into, width, 4, stride, 1, bias=False), nn.BatchNorm2d(width)]
            parts.append(nn.LeakyReLU(0.2))
            into = width
        self.main = nn.Sequential(*parts, nn.Conv2d(into, 1, 4, 1, 1))

    def forward(self, x):
        return self.main(x)
