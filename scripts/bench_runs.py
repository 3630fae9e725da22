"""What `bash scripts/bench` times: data, our runs, the float network in plain JAX, and the process that runs HGQ2."""

import concurrent.futures
import hashlib
import itertools
import json
import multiprocessing
import os
import subprocess
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hgqjax import data as data_
from hgqjax import training
from hgqjax.resources import Ebops
from hgqjax.runs import networks
from hgqjax.training import devices

ROOT = Path(__file__).resolve().parents[1]
N_IN, N_OUT = 16, 5
RATE, BETA = 5e-3, 1e-6
RUN = 1000  # epochs of a run of which single epochs are timed
SHARE = 0.3  # of a run with batch statistics, in all that was measured; the default of `Config.batch_statistics` is 0.7
OBJECTIVE = training.Objective(cost=Ebops())  # in all that was measured; the default is `Luts`
PHASES = {"batch": 0, "kept": int(SHARE * RUN) + 1}  # first check in the phase of batch statistics, and of kept ones


def jets(rows, rows_val=512):
    """So many rows of the embedded jets data; drawn with replacement where there are fewer."""
    dataset = data_.load("jets")
    x, y, x_val, y_val = dataset.x_train, dataset.y_train, dataset.x_val, dataset.y_val
    rng = np.random.default_rng(0)
    if rows > len(x):
        index = rng.integers(0, len(x), rows)
        x, y = x[index], y[index]
    if rows_val > len(x_val):
        index = rng.integers(0, len(x_val), rows_val)
        x_val, y_val = x_val[index], y_val[index]
    return training.Data(*(jnp.asarray(v) for v in (x[:rows], y[:rows], x_val[:rows_val], y_val[:rows_val])))


def hgq(batch, hidden, kind=training.Train, **config):
    """The experiments' network and training."""
    config = {"batch_statistics": SHARE, "objective": OBJECTIVE} | config
    return kind(training.Config(batch_size=batch, **config), networks.Mlp(hidden=hidden).build((N_IN,), N_OUT))


def single():
    return training.Member(jnp.float32(BETA), jnp.float32(RATE), jnp.float32(0))


def many(n):
    return training.Member(jnp.asarray(np.geomspace(1e-6, 1e-4, n), jnp.float32), jnp.full(n, RATE, jnp.float32), jnp.zeros(n))


def clock():
    """Now: (seconds of the wall clock, of the processor). The second says more where others compute at the same time."""
    return np.array([time.perf_counter(), time.process_time()])


def timed(function, *arguments):
    """(clocks that it took, result)."""
    start = clock()
    result = jax.block_until_ready(function(*arguments))
    return clock() - start, result


def hgq_epochs(data, batch, hidden):
    """As `epochs_of`, of the jets network."""
    return epochs_of(hgq(batch, hidden, epochs=RUN), data)


def epochs_of(train, data):
    """{phase: function that trains one more epoch of that phase and gives its clocks}: one program, a state for each phase."""
    member = single()
    init, segment = jax.jit(train.init), jax.jit(train.segment, donate_argnums=0)

    def epochs(first):
        state, checks = init(jax.random.key(0), member, data), itertools.count(first)

        def epoch():
            nonlocal state
            seconds, (state, _) = timed(segment, state, member, data, jnp.int32(next(checks)))
            return seconds

        return epoch

    return {phase: epochs(first) for phase, first in PHASES.items()}


def float_epochs(data, batch, hidden):
    """{name: function that trains one more epoch and gives its clocks}: `float`, whose batch norms use the batch as a float network's do,
    and `float_kept`, whose batch norms use kept averages, as ours in the later phase."""
    return {name: _float_epoch(data, batch, hidden, kept) for name, kept in (("float", False), ("float_kept", True))}


def _float_epoch(data, batch, hidden, kept):
    """The same network in plain JAX and optax: dense, batch norm with running averages, relu, Adam; a scan over shuffled batches.

    The order is drawn on the host, within the time: sorting, as jax.random.permutation does on a CPU, would be half of the epoch.
    """
    sizes = (N_IN, *hidden, N_OUT)
    keys = jax.random.split(jax.random.key(0), len(sizes))
    shapes = list(zip(keys, sizes[:-1], sizes[1:], strict=False))
    params = [(jax.random.normal(k, (n, m)) * (2 / n) ** 0.5, jnp.zeros(m), jnp.ones(m)) for k, n, m in shapes]

    def outputs(params, averages, x):
        moved = []
        for n, (layer, average) in enumerate(zip(params, averages, strict=True)):
            x, now = normalized(x @ layer[0], *layer[1:], average, kept)
            moved.append(now)
            x = x if n == len(params) - 1 else jax.nn.relu(x)
        return x, moved

    return scanned(params, outputs, data, batch)


def normalized(z, bias, scale, average, kept):
    """Batch norm over all axes but the last, and its running averages moved on."""
    axes = tuple(range(z.ndim - 1))
    now = average if kept else (jnp.mean(z, axes), jnp.var(z, axes))
    moved = jax.tree.map(lambda old, new: old + 0.03 * (jax.lax.stop_gradient(new) - old), average, now)
    return (z - now[0]) * (scale / jnp.sqrt(now[1] + 1e-5)) + bias, moved


def scanned(params, outputs, data, batch):
    """A function that trains one more epoch with Adam, a scan over shuffled batches, and gives its clocks; `outputs` are those of rows."""
    rows, steps, adam = len(data.x_train), len(data.x_train) // batch, optax.adam(RATE)
    averages = [(jnp.zeros_like(bias), jnp.ones_like(bias)) for _, bias, _ in params]

    def loss(params, averages, x, y):
        x, moved = outputs(params, averages, x)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(x, y)), moved

    def train(carry, x, y, order):
        def step(carry, rows):
            params, averages, optimizer = carry
            (value, averages), gradients = jax.value_and_grad(loss, has_aux=True)(params, averages, x[rows], y[rows])
            updates, optimizer = adam.update(gradients, optimizer)
            return (optax.apply_updates(params, updates), averages, optimizer), value

        return jax.lax.scan(step, carry, order[: steps * batch].reshape(steps, batch))

    compiled, carry, rng = jax.jit(train, donate_argnums=0), (params, averages, adam.init(params)), np.random.default_rng(0)

    def epoch():
        nonlocal carry
        start = clock()
        order = jnp.asarray(rng.permutation(rows).astype(np.int32))
        carry, _ = jax.block_until_ready(compiled(carry, data.x_train, data.y_train, order))
        return clock() - start

    return epoch


def images(rows, rows_val=64):
    """So many random images of SVHN's shape."""
    rng = np.random.default_rng(0)
    x, y = (lambda n: rng.integers(0, 256, (n, 32, 32, 3)) / 256), (lambda n: rng.integers(0, 10, n))
    parts = (x(rows).astype(np.float32), y(rows).astype(np.int32), x(rows_val).astype(np.float32), y(rows_val).astype(np.int32))
    return training.Data(*map(jnp.asarray, parts))


def cnn(batch, **network):
    """The SVHN experiment's network and training."""
    config = training.Config(batch_size=batch, epochs=RUN, batch_statistics=SHARE, objective=OBJECTIVE)
    return training.Train(config, networks.Cnn(**network).build((32, 32, 3), 10))


def float_cnn_epochs(data, batch, filters, hidden):
    """As `float_epochs`, of the SVHN network; `xla` has XLA's own convolutions, the others one product of matrices for each, as ours."""
    ways = {"float": (False, False), "float_kept": (True, False), "xla": (False, True)}
    return {name: _float_cnn_epoch(data, batch, filters, hidden, *way) for name, way in ways.items()}


def _float_cnn_epoch(data, batch, filters, hidden, kept, xla):
    keys, shapes, side, channels = iter(jax.random.split(jax.random.key(0), 16)), [], 32, 3
    for n in filters:
        shapes, side, channels = [*shapes, (3, 3, channels, n)], (side - 2) // 2, n
    sizes = (side * side * channels, *hidden, 10)
    shapes += list(zip(sizes[:-1], sizes[1:], strict=True))
    params = [
        (jax.random.normal(next(keys), shape) * (2 / np.prod(shape[:-1])) ** 0.5, jnp.zeros(shape[-1]), jnp.ones(shape[-1]))
        for shape in shapes
    ]

    def convolution(x, kernel):
        if xla:
            return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        left = x.shape[1] - 2
        windows = [x[:, i : i + left, j : j + left] for i in range(3) for j in range(3)]
        return jnp.concatenate(windows, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])

    def outputs(params, averages, x):
        moved = []
        for n, (layer, average) in enumerate(zip(params, averages, strict=True)):
            flat = x.reshape(len(x), -1) if n == len(filters) else x
            x, now = normalized(convolution(x, layer[0]) if n < len(filters) else flat @ layer[0], *layer[1:], average, kept)
            moved.append(now)
            x = x if n == len(params) - 1 else jax.nn.relu(x)
            if n < len(filters):
                half = x.shape[1] // 2
                x = x[:, : 2 * half, : 2 * half].reshape(len(x), half, 2, half, 2, -1).max((2, 4))
        return x, moved

    return scanned(params, outputs, data, batch)


def source():
    """Checksum of the package as it is on disk: a run during which it changes has measured several."""
    files = sorted((ROOT / "hgqjax").rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def alternate(runs, rounds):
    """{name: array of the clocks of each round} of `runs`, {name: function that gives clocks}, without the first round, which compiles."""
    seconds = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            spent = run()
            if number:
                seconds[name].append(spent)
    return {name: np.array(values) for name, values in seconds.items()}


def whole(seconds):
    """A mean epoch of a run, from those of its two phases."""
    return SHARE * seconds["batch"] + (1 - SHARE) * seconds["kept"]


def swept(train, data, n):
    """Clocks of each check of a sweep of `n` members."""
    times = []
    mesh = devices.device_mesh(n)  # as the command has it
    training.sweep(train, data, many(n), list(range(n)), report=lambda check, sweep: times.append(clock()), mesh=mesh)
    return np.diff(times, axis=0)


def _high_water():
    """Most memory that this process ever had, bytes. Not ru_maxrss, which a process takes over from the one that started it."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def peak_memory(hidden, members, batch, rows, rows_val):
    """Bytes of a sweep of one epoch with everything that belongs to it; on a GPU those of the device, too."""
    devices.use_cores()
    data = jax.block_until_ready(jets(rows, rows_val))
    before = _high_water()
    swept(hgq(batch, hidden, epochs=1), data, members)
    device = jax.local_devices()[0].memory_stats() or {}
    return {"before": before, "peak": _high_water(), "device": device.get("peak_bytes_in_use", 0)}


def in_fresh_process(function, *arguments):
    """`function(*arguments)` of a new Python process."""
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


class Skip(Exception):
    """Why a comparison cannot be made, in one sentence."""


class Hgq2:
    """HGQ2 in a process and an environment of its own: .venv-hgq2, or the one that HGQJAX_HGQ2_VENV names."""

    def __init__(self):
        environment = os.environ | {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "2"}
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (lives as long as the process)
        command = [self._python(), "-W", "ignore", str(ROOT / "scripts" / "bench_hgq2.py")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors}
        try:
            self.process = subprocess.Popen(command, **pipes, text=True, env=environment)
        except OSError as error:
            raise Skip(f"HGQ2 does not run: {error}") from error
        self.folder = tempfile.TemporaryDirectory()
        self.facts = self("hello")
        if self.facts["backend"] != jax.default_backend():
            raise Skip(f"HGQ2's environment computes on {self.facts['backend']}, this one on {jax.default_backend()}")

    @staticmethod
    def _python():
        folder = os.environ.get("HGQJAX_HGQ2_VENV")
        if folder is None:
            folder, script = ".venv-hgq2", "set -euo pipefail; source scripts/hgq2_environment; environment .venv-hgq2 $hgq2_packages"
            try:
                done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=900)
            except subprocess.TimeoutExpired as error:
                raise Skip("HGQ2 could not be installed within 15 minutes") from error
            if done.returncode:
                raise Skip(f"HGQ2 could not be installed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1][:200]}")
        return str(ROOT / folder / "bin" / "python")

    def __call__(self, do, **arguments):
        try:
            print(json.dumps({"do": do} | arguments), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.errors.seek(0)
            raise Skip(f"HGQ2 does not run: {(self.errors.read().strip().splitlines() or ['it ended'])[-1][:200]}")
        answer = json.loads(line)
        if "error" in answer:
            raise Skip(f"HGQ2 failed: {answer['error'][:200]}")
        return answer

    def send(self, data, **further):
        """Gives it the rows that ours has, and `further` ones by name."""
        path = Path(self.folder.name) / "rows.npz"
        np.savez(path, x=data.x_train, y=data.y_train, x_val=data.x_val, y_val=data.y_val, **further)
        self("data", path=str(path))

    def epoch(self, data, batch, hidden):
        """A function that trains one more epoch and gives its clocks, read over there."""
        self.send(data)
        self("build", hidden=hidden, rows=len(data.x_train), batch=batch)
        return lambda: np.array(self("epochs", epochs=1, validate=False)["seconds"])

    def close(self):
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait(timeout=60)
