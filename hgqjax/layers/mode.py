"""How a model runs: one word, the same for all its modules."""

import enum


class Mode(enum.StrEnum):
    """What a call of a model uses, and what it changes; `Module.set_mode` sets it for the whole model, by member or by word.

    | mode | batch norms use | ranges | values |
    |---|---|---|---|
    | `train` | statistics of the batch, and follow them | follow the rows | WRAP does not wrap; quantizers that sample do |
    | `adapt` | as `train` | as `train` | as `train`, and widths of activations start from the rows |
    | `settle` | running statistics, kept | as `train` | as `train` |
    | `observe` | running statistics, kept | follow the rows | WRAP does not wrap, nothing is sampled |
    | `calibrate` | running statistics, kept | grow to hold the rows, forget nothing | as `observe` |
    | `float` | running statistics, kept | kept | are not quantized |
    | `evaluate` | running statistics, kept | kept | bit-exact, as hardware has them |

    >>> Mode("train").batch_statistics, Mode("settle").batch_statistics
    (True, False)
    """

    TRAIN = "train"
    ADAPT = "adapt"
    SETTLE = "settle"
    OBSERVE = "observe"
    CALIBRATE = "calibrate"
    FLOAT = "float"
    EVALUATE = "evaluate"

    @classmethod
    def _missing_(cls, value: object) -> "Mode":
        raise ValueError(f"mode is {value!r}; legal are {', '.join(repr(mode.value) for mode in cls)}")

    @property
    def batch_statistics(self) -> bool:
        """Whether batch norms use the statistics of the batch."""
        return self in (Mode.TRAIN, Mode.ADAPT)

    @property
    def trains(self) -> bool:
        """Whether quantizers that sample do."""
        return self in (Mode.TRAIN, Mode.ADAPT, Mode.SETTLE)
