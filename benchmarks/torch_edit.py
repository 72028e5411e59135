"""Editing as the PyTorch originals do it, on current diffusers: to be timed, not to be used.

Prompt-to-Prompt by attention processors that hand every map to a controller, which counts layers
and steps (Hertz et al. 2022); null-text inversion by a loop with autograd and an Adam for each step
(Mokady et al. 2023); a stage of Imagic by a loop (Kawar et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

STORED = 32**2  # places of the largest map that is stored or replaced


class Controller:
    """Stores maps, and gives the target the source's; batch [free, asked] x [source, target].

    Args:
      mapper: (tokens, tokens) [source's, target's]. weight: (tokens,). cross, own: in how many
        steps the words' and the places' maps are the source's.
    """

    def __init__(self, layers: int, mapper: Any, weight: Any, cross: int, own: int):
        self.layers, self.mapper, self.weight = layers, mapper, weight
        self.cross, self.own = cross, own
        self.reset()

    def reset(self) -> None:
        self.step = self.layer = 0
        self.now: list[Any] = []
        self.sums: list[Any] = []

    def __call__(self, maps: Any, words: bool) -> Any:
        """maps (batch x heads, places, keys), changed in place."""
        half = len(maps) // 2
        maps[half:] = self.changed(maps[half:], words)
        self.layer += 1
        if self.layer == self.layers:
            self.layer = 0
            self.step += 1
            if self.sums:
                for total, new in zip(self.sums, self.now, strict=True):
                    total += new
            else:
                self.sums = self.now
            self.now = []
        return maps

    def changed(self, maps: Any, words: bool) -> Any:
        if maps.shape[1] <= STORED:
            self.now.append(maps)
        if not words and self.step >= self.own:
            return maps
        both = maps.reshape(2, len(maps) // 2, *maps.shape[1:])
        source, target = both[0], both[1:]
        if words:
            moved = torch.einsum("hps,sn->hpn", source, self.mapper)[None] * self.weight
            acts = float(self.step < self.cross)
            both[1:] = moved * acts + (1 - acts) * target
        elif maps.shape[1] <= STORED:
            both[1:] = source[None].expand_as(target)
        return both.reshape(maps.shape)


class Processor:
    """Attention whose maps a controller sees."""

    def __init__(self, controller: Controller):
        self.controller = controller

    def __call__(self, attn: Any, x: Any, encoder_hidden_states: Any = None, **unused: Any) -> Any:
        del unused
        words = encoder_hidden_states is not None
        source = encoder_hidden_states if words else x
        q, k, v = (
            attn.head_to_batch_dim(layer(y))
            for layer, y in ((attn.to_q, x), (attn.to_k, source), (attn.to_v, source))
        )
        maps = self.controller(attn.get_attention_scores(q, k), words)
        y = attn.batch_to_head_dim(torch.bmm(maps, v))
        return attn.to_out[1](attn.to_out[0](y))


def prompt_to_prompt(
    net: Any, scheduler: Any, x: Any, context: Any, edit: dict[str, Any], steps: int, scale: float
) -> Callable[[], Any]:
    """x (1, c, h, w) noise, context (4, tokens, width) of [free, free, source, target] -> (2, ...).

    edit: arguments of `Controller`.
    """
    controller = Controller(len(net.attn_processors), **edit)
    net.set_attn_processor(Processor(controller))

    def run() -> Any:
        controller.reset()
        with torch.no_grad():
            scheduler.set_timesteps(steps)
            now = x.expand(2, *x.shape[1:])
            for t in scheduler.timesteps:
                out = net(torch.cat([now] * 2), t, encoder_hidden_states=context)["sample"]
                free, led = out.chunk(2)
                now = scheduler.step(free + scale * (led - free), t, now)["prev_sample"]
        return now

    return run


def _moved(scheduler: Any, out: Any, x: Any, of: int, to: int) -> Any:
    """DDIM from the level of one time to that of another."""
    levels, last = scheduler.alphas_cumprod, scheduler.final_alpha_cumprod
    here, there = (levels[t] if t >= 0 else last for t in (of, to))
    x0 = (x - (1 - here) ** 0.5 * out) / here**0.5
    return there**0.5 * x0 + (1 - there) ** 0.5 * out


def null_text(
    net: Any, scheduler: Any, x0: Any, asked: Any, empty: Any, steps: int, scale: float, inner: int
) -> Callable[[], tuple[Any, Any]]:
    """x0 (1, c, h, w), texts (1, tokens, width) -> (noise, texts (steps, 1, tokens, width))."""
    scheduler.set_timesteps(steps)
    times = [int(t) for t in scheduler.timesteps]
    stride = scheduler.config.num_train_timesteps // steps

    def run() -> tuple[Any, Any]:
        path = [x0]
        with torch.no_grad():
            for t in reversed(times):
                out = net(path[-1], t, encoder_hidden_states=asked)["sample"]
                path.append(_moved(scheduler, out, path[-1], t - stride, t))
        x, words, found = path[-1], empty, []
        for i, t in enumerate(times):
            words = words.clone().detach().requires_grad_()
            adam = torch.optim.Adam([words], lr=1e-2 * (1 - i / 100))
            wanted = path[-i - 2]
            with torch.no_grad():
                led = net(x, t, encoder_hidden_states=asked)["sample"]
            for _ in range(inner):
                free = net(x, t, encoder_hidden_states=words)["sample"]
                back = _moved(scheduler, free + scale * (led - free), x, t, t - stride)
                loss = F.mse_loss(back, wanted)
                adam.zero_grad()
                loss.backward()
                adam.step()
                if loss.item() < 1e-5 + 2e-5 * i:
                    break
            found.append(words.detach())
            with torch.no_grad():
                both = torch.cat([found[-1], asked])
                out = net(torch.cat([x, x]), t, encoder_hidden_states=both)["sample"]
                free, led = out.chunk(2)
                x = _moved(scheduler, free + scale * (led - free), x, t, t - stride)
        return path[-1], torch.stack(found)

    return run


def imagic(
    net: Any, scheduler: Any, x0: Any, words: Any, times: Any, noises: Any, rate: float, *,
    weights: bool,
) -> Callable[[], Any]:  # fmt: skip
    """Losses (steps,) of the stage that learns the words (1, tokens, width), or all weights.

    x0 (1, c, h, w), times (steps, k), noises (steps, k, c, h, w).
    """
    net.requires_grad_(weights)
    begun = [p.detach().clone() for p in net.parameters()] if weights else []

    def run() -> Any:
        if weights:
            with torch.no_grad():
                torch._foreach_copy_(list(net.parameters()), begun)
        now = words.clone().requires_grad_(not weights)
        adam = torch.optim.Adam(net.parameters() if weights else [now], rate)
        losses = []
        for t, noise in zip(times, noises, strict=True):
            noisy = scheduler.add_noise(x0.expand_as(noise), noise, t.long())
            rows = now.expand(len(t), *now.shape[1:])
            loss = F.mse_loss(net(noisy, t, encoder_hidden_states=rows)["sample"], noise)
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(loss.detach())
        return torch.stack(losses)

    return run
