"""The part "particles" of the bench: steps of JEDI-linear and of the transformer against the same float networks in plain JAX."""

import jax
import jax.numpy as jnp
import numpy as np
from bench_runs import OBJECTIVE, RUN, SHARE, alternate, epochs_of, normalized, scanned, whole

from hgqjax import training
from hgqjax.runs.particle_networks import JediLinear, Transformer

FEATURES, CLASSES = 3, 5


def part(options, sizes, report):
    """Adds the steps of both networks and their ratios to the report."""
    batch, rows, particles, units = sizes.particles
    data, steps = jets(rows, particles), rows // batch
    networks = {
        "JEDI-linear": (JediLinear(units=units), float_jedi, 1.5),
        "attention": (Transformer(units=max(units // 4, 1)), float_transformer, 1.7),
    }
    for name, (network, plain, most) in networks.items():
        config = training.Config(batch_size=batch, epochs=RUN, batch_statistics=SHARE, objective=OBJECTIVE)
        train = training.Train(config, network.build((particles, FEATURES), CLASSES))
        floats = {"float": plain(network, data, batch, product), "one_matrix": plain(network, data, batch, product_of_one_matrix)}
        runs = floats | epochs_of(train, data)
        spent = alternate(runs, options.rounds)
        spent["run"] = whole(spent)
        where = f"{name}, {particles} particles, batch {batch:,}"
        for key, what in {"float": "float", "run": "HGQ, mean of a run"}.items():
            report.add("particles", f"{where}: {what}", 1e3 * spent[key][:, 0] / steps, "ms/step")
        ratio, goal = spent["run"] / spent["float"], ("<=", most) if units == 64 else None
        report.add("particles", f"{where}: HGQ / float", ratio[:, 0], "x", goal)
        report.add("particles", f"{where}: HGQ / float, processor time", ratio[:, 1], "x")
        ratio = spent["run"] / spent["one_matrix"]
        report.add("particles", f"{where}: HGQ / float with products as ours, processor time", ratio[:, 1], "x")


def jets(rows, particles):
    """So many random jets."""
    rng = np.random.default_rng(0)
    x, y = (lambda n: rng.normal(size=(n, particles, FEATURES))), (lambda n: rng.integers(0, CLASSES, n))
    parts = (x(rows).astype(np.float32), y(rows).astype(np.int32), x(64).astype(np.float32), y(64).astype(np.int32))
    return training.Data(*map(jnp.asarray, parts))


def parameters(shapes):
    """(kernel, bias, scale of a batch norm) of dense layers."""
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [(jax.random.normal(key, (n, m)) * (2 / n) ** 0.5, jnp.zeros(m), jnp.ones(m)) for key, (n, m) in zip(keys, shapes, strict=True)]


def product(x, kernel):
    """As one writes it."""
    return x @ kernel


def product_of_one_matrix(x, kernel):
    """As `hgqjax.layers.Dense` does it: the gradient of the kernel is faster on a CPU."""
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], -1)


def float_jedi(network, data, batch, product):
    """A function that trains one more epoch of JEDI-linear with batch norms, in plain JAX, and gives its clocks."""
    units, head = network.units, (network.units, *network.hidden, CLASSES)
    params = parameters([(FEATURES, units), *[(units, units)] * 3, *zip(head, head[1:], strict=False)])

    def outputs(params, averages, x):
        moved = []

        def dense(x, relu=True):
            n = len(moved)
            z, now = normalized(product(x, params[n][0]), *params[n][1:], averages[n], False)
            moved.append(now)
            return jax.nn.relu(z) if relu else z

        x = dense(x)
        x = dense(x) + dense(x.mean(1, keepdims=True))
        x = dense(x).sum(1) / 16
        for _ in network.hidden:
            x = dense(x)
        return dense(x, relu=False), moved

    return scanned(params, outputs, data, batch)


def float_transformer(network, data, batch, product):
    """As `float_jedi`, of the transformer, which has no batch norm."""
    units, head = network.units, (data.x_train.shape[1] * network.units, *network.hidden, CLASSES)
    blocks = [(units, 2 * units), (2 * units, units)] * network.blocks
    params = parameters([(FEATURES, units), (units, units), *[(units, units)] * 4, *blocks, *zip(head, head[1:], strict=False)])

    def outputs(params, averages, x):
        layers = iter(params)

        def dense(x):
            kernel, bias, _ = next(layers)
            return product(x, kernel) + bias

        x = jax.nn.relu(dense(jax.nn.relu(dense(x))))
        query, key, value = dense(x), dense(x), dense(x)
        scores = jnp.einsum("btk,bsk->bts", query, key) / units**0.5
        x = x + dense(jnp.einsum("bts,bsk->btk", jax.nn.softmax(scores), value))
        for _ in range(network.blocks):
            x = x + jax.nn.relu(dense(jax.nn.relu(dense(x))))
        x = x.reshape(len(x), -1)
        for _ in network.hidden:
            x = jax.nn.relu(dense(x))
        return dense(x), averages

    return scanned(params, outputs, data, batch)
