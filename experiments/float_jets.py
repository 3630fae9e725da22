"""The same network in floating point, batch norm after each layer: the accuracy that the quantized fronts are compared with (a minute)."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from hgqjax import data as data_


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    data: str = "jets"
    """Data set: a name or a path, as in hgqjax sweep."""
    rows: int | None = None
    also: str | None = None
    """A file with further rows of the same features, e.g. real ones: the accuracy there, too."""
    hidden: tuple[int, ...] = (64, 32, 32)
    epochs: int = 60
    batch_size: int = 1024
    learning_rate: float = 5e-3
    seeds: tuple[int, ...] = (0, 1, 2)


class Network(nnx.Module):
    def __init__(self, sizes, rngs):
        self.linear = nnx.List([nnx.Linear(n_in, n_out, rngs=rngs) for n_in, n_out in itertools.pairwise(sizes)])
        self.norm = nnx.List([nnx.BatchNorm(n_out, momentum=0.97, rngs=rngs) for n_out in sizes[1:]])

    def __call__(self, x):
        for n, (linear, norm) in enumerate(zip(self.linear, self.norm, strict=True), start=1):
            x = norm(linear(x))
            x = jax.nn.relu(x) if n < len(self.linear) else x
        return x


def train(config: Config, dataset: data_.Dataset, seed: int) -> Network:
    """One float network, cosine learning rate."""
    model = Network((dataset.input_shape[0], *config.hidden, dataset.n_classes), nnx.Rngs(seed))
    steps = len(dataset.x_train) // config.batch_size
    rate = optax.cosine_decay_schedule(config.learning_rate, steps * config.epochs, alpha=1e-3)
    optimizer = nnx.Optimizer(model, optax.adam(rate), wrt=nnx.Param)
    x_train, y_train = jnp.asarray(dataset.x_train), jnp.asarray(dataset.y_train)

    @nnx.jit
    def epoch(model, optimizer, order):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def step(carry, rows):
            model, optimizer = carry

            def loss(model):
                return optax.softmax_cross_entropy_with_integer_labels(model(x_train[rows]), y_train[rows]).mean()

            optimizer.update(model, nnx.grad(loss)(model))
            return model, optimizer

        step((model, optimizer), order)

    rng = np.random.default_rng(seed)
    for _ in range(config.epochs):
        order = rng.permutation(len(x_train))[: steps * config.batch_size].reshape(steps, config.batch_size)
        epoch(model, optimizer, jnp.asarray(order))
    model.eval()
    return model


def run(config: Config) -> None:
    """Prints the test accuracy of each seed, and of the further rows where they are given."""
    dataset = data_.load(config.data, rows=config.rows)
    sets = {dataset.name: (dataset.x_test, dataset.y_test)}
    if config.also is not None:
        sets[config.also] = data_.load_rows(config.also, scaler=dataset.scaler, classes=dataset.classes)[:2]
    found: dict[str, list[float]] = {name: [] for name in sets}
    for seed in config.seeds:
        model = train(config, dataset, seed)
        for name, (x, y) in sets.items():
            found[name].append(float(np.mean(np.argmax(np.asarray(model(jnp.asarray(x))), axis=1) == y)))
    for name, scores in found.items():
        print(f"float network on {name}: test accuracy {np.mean(scores):.4f} (seeds: {', '.join(f'{v:.4f}' for v in scores)})")
