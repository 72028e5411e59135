"""Samplers against diffusers' own schedulers, at settings that no golden array has; img2img and
inversion with Stable Diffusion's networks, theirs as the net."""

from __future__ import annotations

import json

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.referees import pytorch

from jaxgen.diffusion import guidance, sampling
from jaxgen.diffusion.plans import make_plan
from jaxgen.diffusion.schedules import Schedule

torch = pytorch()

SIGMA = ("euler", "euler-a", "heun", "lms")
SCHEDULERS = {
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True, "set_alpha_to_one": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "dpmpp-2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp-2m-sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {"clip_sample": False}),
}
SETTINGS = [
    ("scaled-linear", "leading", 7, "eps", {}),
    ("scaled-linear", "trailing", 15, "v", {}),
    ("scaled-linear", "linspace", 33, "eps", {}),
    ("linear", "linspace", 12, "x0", {}),
    ("scaled-linear", "leading", 11, "v", {"karras": True}),
]
KARRAS = ("euler", "heun", "lms", "dpmpp-2m", "dpmpp-2m-sde", "unipc")
PREDICTION = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}
X0 = ("ddpm", "ddim", "euler", "dpmpp-2m", "unipc", "lcm")


def theirs(sampler, kind, spacing, steps, target, karras=False):
    name, more = SCHEDULERS[sampler]
    betas = {"scaled-linear": "scaled_linear"}.get(kind, kind)
    if karras:
        more = {**more, "use_karras_sigmas": True}
    if sampler != "lcm":
        more = {**more, "timestep_spacing": spacing}
    scheduler = getattr(diffusers, name)(
        beta_start=0.00085, beta_end=0.012, beta_schedule=betas, num_train_timesteps=1000,
        prediction_type=PREDICTION[target], steps_offset=1, **more,
    )  # fmt: skip
    scheduler.set_timesteps(steps)
    return scheduler


class Recorder:
    """Their noise, drawn by us: the same in both runs, by the number of the draw."""

    def __init__(self, noise):
        self.noise, self.drawn = noise, 0

    def __call__(self, shape, **_):
        self.drawn += 1
        return torch.from_numpy(self.noise[self.drawn - 1])


def theirs_has(sampler, setting):
    """Whether diffusers' sampler can be so set: x0 prediction, Karras's sigmas, other times."""
    _, spacing, _, target, options = setting
    return (
        (target != "x0" or sampler in X0)
        and (not options or sampler in KARRAS)
        and (sampler != "lcm" or spacing == "leading")
    )


CASES = [
    pytest.param(sampler, setting, id=f"{sampler}-{'-'.join(map(str, setting[:4]))}")
    for sampler in SCHEDULERS
    for setting in SETTINGS
    if theirs_has(sampler, setting)
]


@pytest.mark.parametrize(("sampler", "setting"), CASES)
def test_equals_diffusers(sampler, setting, monkeypatch):
    kind, spacing, steps, target, options = setting
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((40, 1, 2, 3, 3)).astype(np.float32)
    first = rng.standard_normal((1, 2, 3, 3)).astype(np.float32)
    scheduler = theirs(sampler, kind, spacing, steps, target, **options)
    module = __import__(type(scheduler).__module__, fromlist=["randn_tensor"])
    if hasattr(module, "randn_tensor"):
        monkeypatch.setattr(module, "randn_tensor", Recorder(noise))

    x = torch.from_numpy(first) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        wave = torch.sin(torch.pi * t.float() / 300)
        x = scheduler.step(torch.sin(2 * scaled + wave), t, x).prev_sample

    def net(x, t):
        return jnp.sin(2 * x + jnp.sin(jnp.pi * t / 300)[:, None, None, None])

    schedule = Schedule(kind)
    plan = make_plan(
        schedule, target, sampler, steps, spacing=None if sampler == "lcm" else spacing, **options
    )
    given = jnp.asarray(noise)
    ours = sampling.sample(net, plan, jnp.asarray(first), draw=lambda call: given[call])
    assert np.abs(np.asarray(ours) - x.numpy()).max() < 2e-5 * max(1, np.abs(x.numpy()).max())


def test_any_number_of_steps_has_their_times():
    for sampler in SCHEDULERS:
        for spacing in ("leading", "linspace", "trailing"):
            for steps in (*range(2, 60, 7), 100, 250):
                if sampler == "lcm" and (spacing != "leading" or steps > 50):
                    continue
                scheduler = theirs(sampler, "scaled-linear", spacing, steps, "eps")
                asked = None if sampler == "lcm" else spacing
                plan = make_plan(Schedule(), "eps", sampler, steps, spacing=asked)
                np.testing.assert_allclose(
                    plan.times[: int(plan.calls)], scheduler.timesteps.numpy(), rtol=1e-6,
                    err_msg=f"{sampler} {spacing} {steps}",
                )  # fmt: skip


def unet_of(folder, name):
    """Their U-Net with a golden file's weights, as one function of arrays."""
    with np.load(folder / "diffusion" / f"{name}.npz") as file:
        flat, config = file["sd:flat"], json.loads(str(file["config"]))
        manifest = json.loads(str(file["sd:manifest"]))
    state = {
        key: torch.from_numpy(
            flat[offset : offset + int(np.prod(shape))].astype(np.float32).reshape(shape)
            * np.float32(scale)
        )
        for key, shape, offset, scale in manifest
    }
    cross = "CrossAttn{}Block2D"
    net = diffusers.UNet2DConditionModel(
        sample_size=config["L"], in_channels=4, out_channels=4, layers_per_block=2,
        block_out_channels=config["ch"], cross_attention_dim=config["ctx"],
        attention_head_dim=config["heads"], use_linear_projection=config.get("linear", False),
        down_block_types=[cross.format("Down")] * 3 + ["DownBlock2D"],
        up_block_types=["UpBlock2D"] + [cross.format("Up")] * 3,
    )  # fmt: skip
    net.load_state_dict(state)
    net.eval()

    @torch.no_grad()
    def predict(x, t, context):
        said = net(
            torch.from_numpy(np.array(x)), torch.from_numpy(np.array(t)),
            encoder_hidden_states=torch.from_numpy(np.array(context)),
        )  # fmt: skip
        return jnp.asarray(said.sample.numpy())

    return predict


@pytest.mark.parametrize("case", ["ddim|0.3", "dpmpp2m|0.6", "euler|0.3"])
def test_img2img_equals_the_published_pipeline(fixtures_dir, case):
    with np.load(fixtures_dir / "diffusion" / "sdedit_img2img.npz") as file:
        arrays = {name: file[name] for name in file.files}
    name, strength = case.split("|")
    sampler, spacing = {
        "ddim": ("ddim", "leading"),
        "dpmpp2m": ("dpmpp-2m", "linspace"),
        "euler": ("euler", "leading"),
    }[name]
    plan = make_plan(Schedule(), "eps", sampler, 10, spacing=spacing, strength=float(strength))
    np.testing.assert_array_equal(plan.times[: int(plan.calls)], arrays[f"{case}|t"])
    predict = unet_of(fixtures_dir, "sd1_unet_tiny")
    denoise = guidance.guided(predict, arrays["context"][None], arrays["uncond"][None], 7.5)
    with jax.disable_jit():  # so that the loop may call their net
        drawn = sampling.sample(denoise, plan, arrays["noise"], arrays["x0"])
    assert np.abs(drawn - arrays[case]).max() < 1e-5 * np.abs(arrays[case]).max()


@pytest.mark.slow
def test_inversion_of_a_v_model_and_back(fixtures_dir):
    with np.load(fixtures_dir / "diffusion" / "v_ddim_inversion.npz") as file:
        arrays = {name: file[name] for name in file.files}
    predict = unet_of(fixtures_dir, "sd2_unet_tiny")

    def denoise(x, t):
        return predict(x, t, arrays["context"])

    there = make_plan(Schedule(), "v", "inverse-ddim", 10)
    back = make_plan(Schedule(), "v", "ddim", 10)
    x = jnp.asarray(arrays["x0"])
    for plan, states in ((there, arrays["inv"]), (back, arrays["rec"])):
        state = sampling.begin(plan, x)._replace(x=x)
        for call in range(10):
            with jax.disable_jit():
                state = sampling.advance(denoise, plan, state, call, call + 1)
            worst = np.abs(state.x - states[call + 1]).max()
            assert worst < 1e-5 * np.abs(states).max(), (plan.sampler, call)
        x = state.x
