"""jaxgen.nn.conv equals XLA's and PyTorch's convolution: values, two derivatives, shards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import in_float64
from jax.sharding import NamedSharding, PartitionSpec
from support.referees import pytorch

from jaxgen.nn.activation import PReLU
from jaxgen.nn.conv import Conv, conv2d
from jaxgen.nn.cpu import dense, gradients, winograd

# (b, h, w), kernel, c, n: 9x9 both ways, odd sizes.
SHAPES = {
    "small": ((2, 8, 8), 3, 5, 7),
    "point": ((2, 9, 7), 1, 5, 6),
    "oblique": ((3, 33, 38), 3, 4, 6),
    "wide": ((2, 40, 36), 3, 32, 8),
    "edge_out": ((2, 37, 40), 9, 16, 3),
    "edge_in": ((2, 35, 41), 9, 3, 16),
    "rows_in": ((2, 19, 23), 9, 3, 40),
    "rows_out": ((2, 19, 23), 9, 40, 3),
    "oblong": ((2, 34, 33), (3, 5), 4, 4),
    "winograd": ((1, 61, 62), 3, 64, 224),
    "few_out": ((2, 21, 18), 3, 16, 3),
    "few_in": ((2, 21, 18), 3, 3, 16),
    "few_pixels": ((2, 5, 6), 3, 320, 416),
}


def numbers(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def arrays(name):
    (b, h, w), k, c, n = SHAPES[name]
    kh, kw = (k, k) if isinstance(k, int) else k
    return numbers(0, b, h, w, c), numbers(1, kh, kw, c, n), numbers(2, b, h, w, n)


def reference(x, kernel, strides=(1, 1), pads=None):
    """lax.conv_general_dilated in float64: the truth that float32 errors are measured against."""
    pads = pads or [(k // 2, k // 2) for k in kernel.shape[:2]]
    return jax.lax.conv_general_dilated(
        x, kernel, strides, pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def assert_close(got, wanted, tolerance=1e-5):
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= tolerance * np.abs(wanted).max()


@pytest.mark.parametrize("name", SHAPES)
def test_forward_and_both_gradients_equal_float64(name):
    x, kernel, g = arrays(name)
    y, pullback = jax.vjp(jax.jit(conv2d), x, kernel)
    dx, dk = pullback(g)
    assert_close(y, in_float64(reference, x, kernel))

    def gradient(which):
        return lambda x, k, g: jax.vjp(reference, x, k)[1](g)[which]

    assert_close(dx, in_float64(gradient(0), x, kernel, g))
    assert_close(dk, in_float64(gradient(1), x, kernel, g))


@pytest.mark.parametrize("name", ["oblique", "edge_out", "small", "few_out", "few_in", "point"])
def test_gradient_penalty_equals_plain_convolution(name):
    """Second order: gradients of |d loss / dx|^2 with respect to kernel and input."""
    x, kernel, _ = arrays(name)

    def penalty(conv):
        def loss(x, k):
            return jnp.sum(jnp.sin(conv(x, k) / 20))

        return lambda x, k: (
            jnp.sum(jax.grad(loss)(x, k) ** 2) + jnp.sum(jax.grad(loss, argnums=1)(x, k) ** 2)
        )

    got = jax.jit(jax.grad(penalty(conv2d), argnums=(0, 1)))(x, kernel)
    wanted = jax.jit(jax.grad(penalty(reference), argnums=(0, 1)))(x, kernel)
    for a, b in zip(got, wanted, strict=True):
        assert_close(a, b, 3e-5)


@pytest.mark.parametrize(
    ("size", "kernel_size", "strides", "pad"),
    [((8, 8), 4, 2, 1), ((9, 7), 4, 2, 1), ((7, 9), 3, 2, 1), ((6, 5), 4, 1, 0), ((9, 8), 5, 3, 2)],
)
def test_other_convolutions_and_two_derivatives_equal_float64(size, kernel_size, strides, pad):
    """Strides, even kernels, paddings: values, gradients and those of a gradient penalty."""
    x, kernel = numbers(0, 2, *size, 3), numbers(1, kernel_size, kernel_size, 3, 4)
    ours = lambda x, k: conv2d(x, k, strides, pad)  # noqa: E731
    plain = lambda x, k: reference(x, k, (strides,) * 2, [(pad, pad)] * 2)  # noqa: E731

    def everything(conv):
        def loss(x, k):
            return jnp.sum(jnp.sin(conv(x, k) / 5))

        def penalty(x, k):
            dx, dk = jax.grad(loss, argnums=(0, 1))(x, k)
            return jnp.sum(dx**2) + jnp.sum(dk**3)

        return lambda x, k: (
            conv(x, k),
            jax.grad(loss, argnums=(0, 1))(x, k),
            jax.grad(penalty, argnums=(0, 1))(x, k),
        )

    got = jax.tree.leaves(jax.jit(everything(ours))(x, kernel))
    wanted = jax.tree.leaves(in_float64(everything(plain), x, kernel))
    for a, b in zip(got, wanted, strict=True):
        assert_close(a, b)


def test_second_derivatives_have_no_window_of_the_whole_picture():
    """JAX's own rules arrive at one for the penalty of a strided layer, 50 times as slow."""
    x, kernel = numbers(0, 2, 16, 16, 3), numbers(1, 4, 4, 3, 5)

    def penalty(k):
        return jnp.sum(jax.grad(lambda x: jnp.sum(conv2d(x, k, 2, 1) ** 3))(x) ** 2)

    def windows(jaxpr):
        """Of the convolutions with a dilated input."""
        for eqn in jaxpr.eqns:
            if eqn.params.get("lhs_dilation", (1, 1)) != (1, 1):
                shape = eqn.invars[1].aval.shape
                yield tuple(shape[i] for i in eqn.params["dimension_numbers"].rhs_spec[2:])
            for inner in [*eqn.params.values(), *eqn.params.get("branches", ())]:
                if hasattr(inner, "jaxpr"):
                    yield from windows(inner.jaxpr)

    assert set(windows(jax.make_jaxpr(jax.grad(penalty))(kernel).jaxpr)) == {(4, 4)}


def test_the_fast_paths_are_taken(monkeypatch):
    """The shapes above would prove nothing if the rules sent them all to XLA."""
    calls = []

    def spy(name, f):
        return lambda *args: calls.append(name) or f(*args)

    jax.clear_caches()  # what was traced before would not come by again
    monkeypatch.setattr(winograd, "conv3x3", spy("winograd", winograd.conv3x3))
    gradient = spy("winograd gradient", winograd.kernel_gradient)
    monkeypatch.setattr(winograd, "kernel_gradient", gradient)
    for module, where in ((dense, "input"), (gradients, "exchanged")):
        monkeypatch.setattr(module, "turned", spy(where, module.turned))
    monkeypatch.setattr(gradients, "_by_rows", spy("rows", gradients._by_rows))
    monkeypatch.setattr(dense, "_by_taps", spy("taps", dense._by_taps))
    monkeypatch.setattr(dense, "_columns", spy("columns", dense._columns))
    monkeypatch.setattr(dense, "_back_by_columns", spy("columns back", dense._back_by_columns))
    for name, wanted in {
        "edge_in": {"input"},
        "edge_out": {"input", "exchanged"},
        "rows_in": {"input", "rows"},
        "rows_out": {"input", "rows", "exchanged"},
        "winograd": {"input", "winograd", "winograd gradient"},
        "few_out": {"input", "taps", "exchanged"},
        "few_in": {"input", "taps"},
        "few_pixels": {"columns", "columns back"},
    }.items():
        calls.clear()
        x, kernel, g = arrays(name)
        jax.eval_shape(lambda x, k, g: jax.vjp(conv2d, x, k)[1](g), x, kernel, g)
        assert set(calls) == wanted, name


@pytest.mark.parametrize(("size", "channels"), [(41, (64, 32, 40)), (9, (3, 4))])
def test_several_inputs_equal_their_concatenation(size, channels, monkeypatch):
    """By Winograd without concatenation, and where the layer is too small for that."""
    xs = [numbers(i, 2, size, size, c) for i, c in enumerate(channels)]
    kernel, g = numbers(7, 3, 3, sum(channels), 96), numbers(8, 2, size, size, 96)
    seen = []
    together = winograd.conv3x3
    monkeypatch.setattr(
        winograd, "conv3x3", lambda xs, kernel: seen.append(len(xs)) or together(xs, kernel)
    )
    y, pullback = jax.vjp(jax.jit(conv2d), xs, kernel)
    dxs, dk = pullback(g)
    assert (3 in seen) == (size == 41)

    def wanted(x, kernel, g):
        y, pullback = jax.vjp(reference, x, kernel)
        return y, *pullback(g)

    got = y, jnp.concatenate(dxs, axis=-1), dk
    for a, b in zip(got, in_float64(wanted, jnp.concatenate(xs, -1), kernel, g), strict=True):
        assert_close(a, b)
    layer = Conv(96, 3)
    variables = jax.jit(layer.init)(jax.random.key(0), xs)
    whole = layer.apply(variables, jnp.concatenate(xs, axis=-1))
    assert_close(layer.apply(variables, xs), whole)


def test_gradient_penalty_of_several_inputs_equals_float64():
    """Second order by Winograd throughout."""
    xs = [numbers(i, 1, 23, 21, 64) for i in range(2)]
    kernel = numbers(7, 3, 3, 128, 96)

    def penalty(conv):
        def loss(xs, k):
            return jnp.sum(jnp.sin(conv(xs, k) / 20))

        return lambda a, b, k: sum(
            jnp.sum(d**2) for d in jax.tree.leaves(jax.grad(loss, argnums=(0, 1))([a, b], k))
        )

    def plain(xs, k):
        return reference(jnp.concatenate(xs, axis=-1), k)

    got = jax.jit(jax.grad(penalty(conv2d), argnums=(0, 1, 2)))(*xs, kernel)
    wanted = in_float64(jax.grad(penalty(plain), argnums=(0, 1, 2)), *xs, kernel)
    for a, b in zip(got, wanted, strict=True):
        assert_close(a, b, 3e-5)


def test_the_input_of_a_1x1_convolution_is_computed_once():
    """XLA computed it again for the kernel's gradient, transposed: slow in separable layers."""
    x, kernel = numbers(0, 2, 8, 8, 16), numbers(1, 1, 1, 16, 24)

    def loss(x, kernel):
        return jnp.sum(conv2d(jnp.sin(x), kernel) ** 2)

    program = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(x, kernel).compile()
    assert program.as_text().count(" sine(") == 1


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 5, 7), (1, 1, 1), (3, 50, 47)])
def test_winograd_takes_any_size(shape):
    x, kernel = numbers(0, *shape, 48), numbers(1, 3, 3, 48, 40)
    assert_close(jax.jit(winograd.conv3x3)([x], kernel), in_float64(reference, x, kernel), 5e-6)
    g = numbers(2, *shape, 40)

    def gradient(x, kernel, g):
        return jax.vjp(lambda k: reference(x, k), kernel)[1](g)[0]

    got = jax.jit(winograd.kernel_gradient)(x, g)
    assert_close(got, in_float64(gradient, x, kernel, g), 5e-6)


def test_winograd_bands_equal_one_band(monkeypatch):
    x, kernel = numbers(0, 2, 30, 21, 32), numbers(1, 3, 3, 32, 32)
    g = numbers(2, 2, 30, 21, 32)
    whole, gradient = winograd.conv3x3([x], kernel), winograd.kernel_gradient(x, g)
    monkeypatch.setattr(winograd, "BAND_SIZE", 2 * 2 * 6 * 32)  # two block rows a band
    assert_close(winograd.conv3x3([x], kernel), whole, 3e-6)
    assert_close(winograd.kernel_gradient(x, g), gradient, 3e-6)


def test_winograd_is_as_exact_as_plain_float32_within_a_factor_of_four():
    x, kernel = numbers(0, 1, 64, 64, 64), numbers(1, 3, 3, 64, 64)
    truth = in_float64(reference, x, kernel)
    rms = lambda y: np.sqrt(np.mean((np.asarray(y, np.float64) - truth) ** 2))  # noqa: E731
    assert rms(winograd.conv3x3([x], kernel)) <= 4 * rms(reference(x, kernel))


@pytest.mark.parametrize(
    ("kernel_size", "strides"), [(3, 1), (3, 2), (4, 2), (1, 1), (9, 1), (5, 2)]
)
def test_layer_pads_as_pytorch(kernel_size, strides):
    torch = pytorch()
    x = numbers(0, 2, 12, 11, 3)
    layer = Conv(6, kernel_size, strides=strides, bias_init=jax.nn.initializers.normal(1.0))
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    assert variables["params"]["kernel"].shape == (kernel_size, kernel_size, 3, 6)
    kernel, bias = (np.asarray(variables["params"][k]) for k in ("kernel", "bias"))
    wanted = torch.nn.functional.conv2d(
        torch.from_numpy(np.array(x.transpose(0, 3, 1, 2))),
        torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()),
        torch.from_numpy(bias.copy()),
        stride=strides,
        padding=kernel_size // 2,
    )
    assert_close(layer.apply(variables, x), wanted.numpy().transpose(0, 2, 3, 1))


def test_padding_by_number_and_valid():
    x, kernel = numbers(0, 2, 9, 10, 3), numbers(1, 3, 3, 3, 4)
    assert_close(conv2d(x, kernel, padding="VALID"), reference(x, kernel, pads=[(0, 0), (0, 0)]))
    assert_close(conv2d(x, kernel, 2, padding=2), reference(x, kernel, (2, 2), [(2, 2), (2, 2)]))
    with pytest.raises(ValueError, match="padding"):
        conv2d(x, kernel, padding="same")


def test_bfloat16_computes_in_bfloat16_with_float32_parameters():
    x = numbers(0, 1, 40, 40, 8)
    layer = Conv(4, 3, dtype=jnp.bfloat16)
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    assert variables["params"]["kernel"].dtype == jnp.float32
    y = layer.apply(variables, x)
    assert y.dtype == jnp.bfloat16
    assert_close(y.astype(jnp.float32), reference(x, variables["params"]["kernel"]), 2e-2)


@pytest.mark.parametrize("name", ["edge_out", "winograd"])
def test_sharded_batch_and_kernel_equal_one_device(name):
    (_, h, w), k, c, n = SHAPES[name]
    x, kernel, g = numbers(0, 8, h, w, c), numbers(1, k, k, c, n), numbers(2, 8, h, w, n)

    def both(x, kernel, g):
        y, pullback = jax.vjp(conv2d, x, kernel)
        return y, *pullback(g)

    wanted = jax.jit(both)(x, kernel, g)
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    batch = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    over_inputs = NamedSharding(mesh, PartitionSpec(None, None, "fsdp"))
    sharded = jax.jit(
        both,
        in_shardings=(batch, over_inputs, batch),
        out_shardings=(batch, batch, over_inputs),
    )
    for a, b in zip(sharded(x, kernel, g), wanted, strict=True):
        assert_close(a, b)


def test_prelu_slopes_each_channel():
    x = jnp.asarray([[[-2.0, -2.0], [3.0, 0.0]]])
    _, variables = PReLU(slope=0.1).init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(variables["params"]["alpha"], [0.1, 0.1])
    variables = {"params": {"alpha": jnp.asarray([0.5, 0.25])}}
    np.testing.assert_allclose(PReLU().apply(variables, x), [[[-1.0, -0.5], [3.0, 0.0]]])


@pytest.mark.parametrize(("side", "transformed"), [(8, False), (48, True)])
def test_large_kernels_are_not_transformed_for_few_pixels(side, transformed):
    """Winograd's transform of a kernel is four times the kernel: of a whole UNet, gigabytes."""
    x = jax.ShapeDtypeStruct((1, side, side, 576), "float32")
    kernel = jax.ShapeDtypeStruct((3, 3, 576, 576), "float32")
    taken = jax.jit(conv2d).lower(x, kernel).compile().memory_analysis().temp_size_in_bytes
    assert (taken > 4 * kernel.size * 4) == transformed
