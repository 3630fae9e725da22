"""HGQ2's side of `bash scripts/bench`: runs in an environment that has HGQ2 and obeys commands, a JSON object a line, on standard input.

Each command is answered by one JSON object a line. The process is kept alive, so that one run can alternate its epochs and ours:
{"do": "hello"}                                      -> versions and backend
{"do": "data", "path": npz}                          -> reads x, y, x_val, y_val
{"do": "build", "hidden": [...], "rows", "batch"}    -> a fresh network; what it consists of
{"do": "epochs", "epochs", "validate": bool}         -> trains the network for so many epochs
{"do": "ramp", "epochs", "start", "end", "cycles"}   -> trains it while beta rises; points of its front, their test accuracy and EBOPs
The answers to the last three have "seconds": of the wall clock, and of the processor; those of "ramp" at the end of each epoch.
"""

import json
import os
import sys
import time
from importlib import metadata

import keras
import numpy as np
from hgq import layers
from hgq.config import LayerConfigScope, QuantizerConfigScope
from hgq.utils import trace_minmax
from hgq.utils.sugar import BetaScheduler

BETA, LEARNING_RATE, N_OUT = 1e-6, 5e-3, 5


def clock():
    """Now: (seconds of the wall clock, of the processor)."""
    return np.array([time.perf_counter(), time.process_time()])


def network(n_in, hidden):
    """Fused dense and batch norm layers under the scopes that HGQ2's own documentation shows; a width for every weight and activation."""
    with (
        QuantizerConfigScope(place="all", default_q_type="kbi", overflow_mode="SAT_SYM"),
        QuantizerConfigScope(place="datalane", default_q_type="kif", overflow_mode="WRAP"),
        LayerConfigScope(enable_ebops=True, beta0=BETA),
    ):
        # QEinsumDenseBatchnorm normalises what leaves the layer, as Dense with batch_norm; QBatchNormDense of HGQ2 0.2.0 what enters it
        outputs = [*((units, "relu") for units in hidden), (N_OUT, None)]
        stack = [layers.QEinsumDenseBatchnorm("bc,cC->bC", units, bias_axes="C", activation=relu) for units, relu in outputs]
        return keras.Sequential([keras.Input((n_in,)), *stack])


class Session:
    """The present data and network."""

    def hello(self):
        import jax

        versions = {"HGQ2": metadata.version("HGQ2"), "keras": keras.__version__, "jax": jax.__version__}
        return {"versions": versions, "backend": jax.default_backend(), "keras_backend": keras.backend.backend()}

    def data(self, path):
        with np.load(path) as npz:
            self.arrays = {name: npz[name] for name in npz.files}
        return {name: list(array.shape) for name, array in self.arrays.items()}

    def build(self, hidden, rows, batch):
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        self.batch, self.rows = batch, rows - rows % batch  # whole batches: a last short one would be a second compilation
        start = clock()
        self.model = network(self.arrays["x"].shape[1], hidden)
        self.model.compile(
            optimizer=keras.optimizers.Adam(LEARNING_RATE),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],  # ours has it too
            jit_compile=True,
            steps_per_execution=max(1, self.rows // batch),  # the fastest in our trials: one callback an epoch
        )
        seconds = (clock() - start).tolist()
        shapes = {v.path: list(v.shape) for v in self.model.trainable_variables}
        return {"seconds": seconds, "trainable": sum(int(np.prod(shape)) for shape in shapes.values()), "shapes": shapes}

    def epochs(self, epochs, validate):
        x, y = self.arrays["x"][: self.rows], self.arrays["y"][: self.rows]
        validation = (self.arrays["x_val"], self.arrays["y_val"]) if validate else None
        start = clock()
        # fit ends with the state and the logs on the host: nothing is still under way
        history = self.model.fit(x, y, batch_size=self.batch, epochs=epochs, validation_data=validation, verbose=0).history
        seconds = (clock() - start).tolist()
        ebops = sum(int(np.asarray(layer.ebops)) for layer in self.model.layers)
        return {"seconds": seconds, "loss": history["loss"], "accuracy": history["accuracy"], "ebops": ebops}

    def ramp(self, epochs, start, end, cycles):
        x, y = self.arrays["x"][: self.rows], self.arrays["y"][: self.rows]
        looks, length, begun = [], -(-epochs // cycles), clock()

        def look(epoch, logs):
            seconds = (clock() - begun).tolist()
            ebops = sum(int(np.asarray(layer.ebops)) for layer in self.model.layers)
            looks.append((seconds, logs["val_accuracy"], ebops, self.model.get_weights()))

        def rate(epoch):
            return LEARNING_RATE * 0.94 ** (epoch // length) * (1 + np.cos(np.pi * (epoch % length) / length)) / 2

        callbacks = [
            BetaScheduler(lambda epoch: start * (end / start) ** (epoch / max(1, epochs - 1))),
            keras.callbacks.LearningRateScheduler(rate),
            keras.callbacks.LambdaCallback(on_epoch_end=look),
        ]
        validation = self.arrays["x_val"], self.arrays["y_val"]
        self.model.fit(x, y, batch_size=self.batch, epochs=epochs, validation_data=validation, callbacks=callbacks, verbose=0)
        points = []
        for number, (_, accuracy, ebops, weights) in enumerate(looks):
            if any(other[1] >= accuracy and other[2] <= ebops for other in looks[:number]):
                continue  # never on the front
            self.model.set_weights(weights)
            trace_minmax(self.model, x, batch_size=self.batch, verbose=0)
            traced = sum(int(np.asarray(layer.ebops)) for layer in self.model.layers)
            guesses = np.argmax(self.model.predict(self.arrays["x_test"], batch_size=self.batch, verbose=0), axis=1)
            points.append((number, accuracy, float(np.mean(guesses == self.arrays["y_test"])), traced))
        return {"seconds": [seconds for seconds, *_ in looks], "points": points}


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints goes to the error stream
    session = Session()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(session, command.pop("do"))(**command)
        except Exception as error:  # reported, so that the bench can say why it has no comparison
            answer = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
