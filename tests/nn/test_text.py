"""The small transformer that reads captions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.nn.text import TransformerEncoder


def test_words_that_nothing_told_apart_yet_are_not_made_the_same():
    """What all words have to learn at first must not take their differences: shapes show late."""
    encoder = TransformerEncoder(size=12, length=4, width=32, layers=1)
    tokens = jax.random.randint(jax.random.key(0), (64, 4), 1, 12)
    mask = jnp.ones(tokens.shape, bool)
    variables = jax.jit(encoder.init)(jax.random.key(1), tokens, mask)
    goal = jax.random.normal(jax.random.key(2), (1, 32))
    optimizer = optax.adam(2e-3)

    def loss(variables):
        return jnp.mean((encoder.apply(variables, tokens, mask).sentence - goal) ** 2)

    @jax.jit
    def step(variables, state):
        updates, state = optimizer.update(jax.grad(loss)(variables), state)
        return optax.apply_updates(variables, updates), state

    def alike(variables):
        rows = np.asarray(variables["params"]["tokens"])[1:]
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return np.abs((rows @ rows.T)[np.triu_indices(len(rows), 1)]).mean()

    before, after = variables, optimizer.init(variables)
    for _ in range(100):
        variables, after = step(variables, after)
    assert loss(variables) < 0.1 * loss(before)
    assert alike(variables) < alike(before) + 0.1
