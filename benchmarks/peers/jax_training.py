"""Trains INRs of three linear layers by `jax.vmap`; `training_peers.py` runs it.

It needs an environment with jax and numpy alone.

    python jax_training.py GIVEN.npz MADE.json

Shape letters: M models, D length of the flat vector, B points.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

OMEGA, HIDDEN, OFFSET = 30.0, 32, 0.5
DECAY, LR, BETA1, BETA2, EPS = 1e-3, 1e-3, 0.9, 0.999, 1e-8


def _loss(flat, x, y):
    """Mean squared error of one INR, from its flat weights in the order of the layer table."""
    at, sizes = 0, [x.shape[1], HIDDEN, HIDDEN, y.shape[1]]
    for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
        weight = flat[at : at + inputs * outputs].reshape(outputs, inputs)
        at += inputs * outputs
        x = x @ weight.T + flat[at : at + outputs]
        at += outputs
        if at < len(flat):
            x = jnp.sin(OMEGA * x)
    return ((x + OFFSET - y) ** 2).mean()


@jax.jit
def _step(flat, mean, square, count, x, y):
    """One step of Adam of all models."""
    losses, gradient = jax.vmap(jax.value_and_grad(_loss))(flat, x, y)
    gradient = gradient + DECAY * flat
    mean = BETA1 * mean + (1 - BETA1) * gradient
    square = BETA2 * square + (1 - BETA2) * gradient**2
    scaled = jnp.sqrt(square / (1 - BETA2**count)) + EPS
    return flat - LR * (mean / (1 - BETA1**count)) / scaled, mean, square, losses


def main():
    """Warm up, time the steps, write seconds and first losses."""
    given = np.load(sys.argv[1])
    flat, x, y = (jnp.asarray(given[name]) for name in ("flat", "x", "y"))
    state = (flat, jnp.zeros_like(flat), jnp.zeros_like(flat))
    first = _step(*state, 1.0, x, y)[3]
    first.block_until_ready()
    start = time.process_time()
    for count in range(1, int(given["steps"]) + 1):
        *state, losses = _step(*state, float(count), x, y)
    losses.block_until_ready()
    seconds = time.process_time() - start
    with open(sys.argv[2], "w") as file:
        json.dump({"seconds": seconds, "first_losses": first.tolist()}, file)


if __name__ == "__main__":
    main()
