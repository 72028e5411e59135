"""SRGAN: published counts, the two stages, losses by config, guards against D's collapse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REPOSITORY, checkpoint_arrays, run, tiny
from support.reach import lively, true_radius
from support.upscaling import of_module

from jaxgen import config as configs
from jaxgen.errors import UserError
from jaxgen.models.srgan import task as srgan
from jaxgen.models.srgan.discriminator import Discriminator
from jaxgen.models.srgan.generator import FORMS, KerasGenerator, SRResNet
from jaxgen.train import loop
from jaxgen.weights.checkpoints import read_metrics


def count(module, shape):
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros(shape)))
    sizes = {k: sum(x.size for x in jax.tree.leaves(v)) for k, v in variables.items()}
    return sizes["params"], sizes.get("batch_stats", 0)


@pytest.mark.parametrize(
    ("module", "shape", "trainable", "statistics"),
    [
        # Conv biases, one PReLU slope per channel: 1,550,659; 33 BatchNorms of 64 channels.
        (SRResNet(), (1, 24, 24, 3), 1_550_659, 4_224),
        # Keras-SRGAN's Network.py.
        (KerasGenerator(), (1, 56, 56, 3), 2_039_555, 4_224),
        # Keras' block35 for each residual block: 65,328 in place of 74,176.
        (KerasGenerator(inception=True), (1, 56, 56, 3), 2_039_555 - 16 * 8_848, 7_808),
        (Discriminator(), (1, 224, 224, 3), 107_451_585, 3_712),
        (Discriminator(), (1, 96, 96, 3), 23_565_505, 3_712),
        (Discriminator(), (1, 128, 128, 3), 38_245_569, 3_712),
        (Discriminator(head="pool"), (1, 96, 96, 3), 5_215_425, 3_712),
        # Dropout has no parameters.
        (Discriminator(dropout=0.25), (1, 96, 96, 3), 23_565_505, 3_712),
    ],
)
def test_published_parameter_counts(module, shape, trainable, statistics):
    assert count(module, shape) == (trainable, statistics)


@pytest.mark.parametrize("variant", [":paper", ":seed004", ":inception", ":celeba"])
def test_variants_have_the_published_networks(variant):
    config = configs.load(f"{REPOSITORY}/configs/srgan.py{variant}")
    size = config.data.hr_size
    generator = count(srgan.make_generator(config), (1, size // 4, size // 4, 3))[0]
    discriminator = count(srgan.make_discriminator(config), (1, size, size, 3))[0]
    expected = {
        ":paper": (1_550_659, 23_565_505),
        ":seed004": (2_039_555, 107_451_585),
        ":inception": (1_897_987, 107_451_585),
        ":celeba": (1_550_659, 138_908_865),
    }
    assert (generator, discriminator) == expected[variant]


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_scales_and_output_range(form, scale):
    module = form(scale=scale, features=8, blocks=1, output="tanh")
    x = jax.random.uniform(jax.random.key(1), (2, 6, 7, 3), minval=-1.0)
    y = module.apply(jax.jit(module.init)(jax.random.key(0), x), x)
    assert y.shape == (2, 6 * scale, 7 * scale, 3)
    assert y.dtype == jnp.float32
    assert float(jnp.abs(y).max()) <= 1.0


def test_inception_blocks_reach_as_far_as_residual_ones():
    module = KerasGenerator(features=16, blocks=2, edge_kernel=3, inception=True)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3))))
    verb = of_module(module.apply, module.scale, module.radius())
    found = true_radius(verb, {"g": lively(shapes)})
    assert found <= verb.radius <= found + 2


def test_light_generator_starts_at_bicubic():
    from jaxgen.data.resize import imresize

    module = SRResNet(features=8, blocks=1, norm=False, skip=True)
    x = np.random.default_rng(0).uniform(-1, 1, (1, 9, 8, 3)).astype(np.float32)
    y = module.apply(jax.jit(module.init)(jax.random.key(0), x), x)
    np.testing.assert_allclose(y[0], imresize(x[0], scale=4, mode="float"), atol=1e-5)


def test_stages_follow_each_other(tmp_path):
    """Pre-training touches G alone; the GAN touches both; one log holds both."""
    run(tiny(train__checkpoint_every=2, train__keep=9), tmp_path)
    before, after = checkpoint_arrays(tmp_path, 2), checkpoint_arrays(tmp_path, 4)
    changed = {k for k in before if (before[k] != after[k]).any()}
    assert any(k.startswith("net_g/") for k in changed)
    assert not any(k.startswith(("net_d/", "opt/d/", "opt/g/")) for k in changed)
    last = checkpoint_arrays(tmp_path, 8)
    changed = {k.split("/")[0] for k in last if (last[k] != after[k]).any()}
    assert {"net_g", "net_d", "ema_g", "opt"} <= changed
    keys = [set(line) for line in read_metrics(tmp_path) if line["kind"] == "train"]
    assert "pretrain/loss" in keys[0]
    assert "d/accuracy" not in keys[0]
    assert {"d/accuracy", "g/adversarial", "g/perceptual", "g/pixel"} <= keys[-1]


def test_resnet_alone_has_no_discriminator(tmp_path):
    run(tiny(model__pretrain_steps=-1, train__steps=2), tmp_path)
    assert not any(k.startswith("net_d") for k in checkpoint_arrays(tmp_path, 2))


def test_gan_from_another_run(tmp_path):
    run(tiny(model__pretrain_steps=-1, train__steps=2), tmp_path / "resnet")
    config = tiny(
        model__pretrain_steps=0,
        train__steps=1,
        train__init_from__g=str(tmp_path / "resnet"),
        optimizer__g__lr=0.0,
    )
    run(config, tmp_path / "gan")
    theirs, ours = checkpoint_arrays(tmp_path / "resnet", 2), checkpoint_arrays(tmp_path / "gan", 1)
    key = "params/conv_in/kernel"
    np.testing.assert_array_equal(ours[f"net_g/{key}"], theirs[f"ema_g/{key}"])


def test_init_from_another_size_names_the_difference(tmp_path):
    run(tiny(model__pretrain_steps=-1, train__steps=1), tmp_path / "resnet")
    config = tiny(
        model__generator__features=4,
        train__steps=1,
        train__init_from__g=str(tmp_path / "resnet"),
    )
    with pytest.raises(UserError, match=r"net 'g' does not fit .*params/conv_in/bias is \(8,\)"):
        run(config, tmp_path / "gan")


def losses(**changes):
    """SRLosses of a tiny config with its variables and one batch."""
    config = tiny(model__pretrain_steps=0, **changes)
    task = loop.load_task(config)
    rng = np.random.default_rng(0)
    batch = {
        "lr": jnp.asarray(rng.integers(0, 256, (4, 8, 8, 3), np.uint8)),
        "hr": jnp.asarray(rng.integers(0, 256, (4, 32, 32, 3), np.uint8)),
    }
    params, mutable = task.init(jax.random.key(0), batch)
    return task, params, mutable, batch


def phase_loss(name, step=0, **changes):
    task, params, mutable, batch = losses(**changes)
    phase = next(p for p in task.phases if p.name == name)
    return phase.loss(
        params, mutable, task.frozen, batch, jax.random.key(7), jnp.asarray(step, jnp.int32)
    )


def test_generator_loss_is_the_weighted_sum_of_its_parts():
    value, (_, parts) = phase_loss("g")
    assert set(parts) == {"pixel", "perceptual", "adversarial"}
    np.testing.assert_allclose(float(value), sum(map(float, parts.values())), rtol=1e-6)
    _, (_, doubled) = phase_loss("g", model__loss__pixel=2.0)
    np.testing.assert_allclose(float(doubled["pixel"]), 2 * float(parts["pixel"]), rtol=1e-6)
    _, (_, only) = phase_loss("g", model__loss__pixel=0.0, model__loss__perceptual=0.0)
    assert set(only) == {"adversarial"}


def test_all_weights_zero_is_refused():
    zero = {f"model__loss__{k}": 0.0 for k in ("pixel", "perceptual", "adversarial")}
    with pytest.raises(UserError, match="all weights"):
        phase_loss("g", **zero)


def test_smoothing_noise_and_dropout_reach_the_discriminator():
    plain, _ = phase_loss("d", model__loss__label_smoothing=0.0)
    for change in (
        {"model__loss__label_smoothing": 0.2},
        {"model__loss__label_smoothing": 0.2, "model__loss__label_smoothing_kind": "uniform"},
        {"model__loss__label_smoothing": 0.0, "model__discriminator__dropout": 0.5},
        {
            "model__loss__label_smoothing": 0.0,
            "model__loss__instance_noise": 0.5,
            "model__loss__instance_noise_steps": 10,
        },
    ):
        changed, _ = phase_loss("d", **change)
        assert abs(float(changed) - float(plain)) > 1e-6, change


def test_instance_noise_fades_to_nothing():
    noise = {"model__loss__instance_noise": 0.5, "model__loss__instance_noise_steps": 10}
    late, _ = phase_loss("d", step=10, **noise)
    plain, _ = phase_loss("d", step=10)
    np.testing.assert_allclose(float(late), float(plain), rtol=1e-6)


def test_d_learns_while_g_waits_for_its_turn(tmp_path):
    """D steps per G step."""
    config = tiny(model__pretrain_steps=0, train__steps=6, model__loss__d_steps_per_g_step=3)
    run(config, tmp_path)
    arrays = checkpoint_arrays(tmp_path, 6)
    assert int(arrays["opt/d/0/count"]) == 6
    assert int(arrays["opt/g/0/count"]) == 2


def test_generator_update_leaves_the_discriminators_statistics():
    task, params, mutable, batch = losses()
    phase = next(p for p in task.phases if p.name == "g")
    _, (changed, _) = phase.loss(
        params, mutable, task.frozen, batch, jax.random.key(0), jnp.zeros((), jnp.int32)
    )
    kept = changed.get("d", mutable["d"])
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), kept, mutable["d"]))


@pytest.mark.parametrize("form", ["srresnet", "keras", "inception"])
def test_batch_statistics_of_the_generator_move(form, tmp_path):
    config = tiny(train__steps=2)
    with config.unlocked():
        config.model.generator = {
            "srresnet": {"form": "srresnet", "features": 8, "blocks": 1, "norm": True},
            "keras": {"form": "keras", "features": 8, "blocks": 1},
            "inception": {"form": "inception", "features": 8, "blocks": 1},
        }[form]
    run(config, tmp_path)
    arrays = checkpoint_arrays(tmp_path, 2)
    assert (arrays["net_g/batch_stats/norm_trunk/mean"] != 0).any()
    assert (arrays["ema_g/batch_stats/norm_trunk/mean"] != 0).any()


IRN = {
    "model__loss__perceptual_net": "inception_resnet_v2",
    "model__loss__perceptual_layers": (("mixed_5b", 1.0), ("block35_2", 0.5)),
    "model__loss__perceptual_input": "raw",
}


def test_perceptual_features_of_another_network():
    """Seed 004 compared VGG19 with layers of Inception-ResNet-v2."""
    task, *_ = losses(**IRN)
    kept = set(task.frozen["perceptual"]["params"])
    assert {"mixed_5b", "block35_2"} <= kept
    assert "block35_3" not in kept
    _, (_, vgg19) = phase_loss("g")
    _, (_, both) = phase_loss("g", **IRN)
    _, (_, one) = phase_loss("g", **IRN | {"model__loss__perceptual_layers": (("mixed_5b", 1.0),)})
    assert 0 < float(one["perceptual"]) < float(both["perceptual"])
    assert float(one["perceptual"]) != float(vgg19["perceptual"])
    assert float(one["pixel"]) == float(vgg19["pixel"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"perceptual_input": "imagenet"}, "use the perceptual input raw, not 'imagenet'"),
        ({"perceptual_layers": (("mixed_6a", 1.0),)}, "too small for mixed_6a .* 43 pixels"),
        ({"perceptual_layers": (("conv5_4", 1.0),)}, "no Inception-ResNet-v2 layer conv5_4"),
        ({"perceptual_net": "resnet50"}, "unknown perceptual net 'resnet50'"),
        ({"perceptual_kind": "l3"}, "unknown model.loss.perceptual_kind 'l3'; there are l1, l2"),
        ({"adversarial_kind": "wgan"}, "unknown model.loss.adversarial_kind 'wgan'"),
        ({"label_smoothing_kind": "two-sided"}, "unknown model.loss.label_smoothing_kind"),
    ],
)
def test_perceptual_mistakes_show_before_the_first_step(changes, message):
    changes = IRN | {f"model__loss__{key}": value for key, value in changes.items()}
    with pytest.raises(UserError, match=message):
        loop.load_task(tiny(**changes))
