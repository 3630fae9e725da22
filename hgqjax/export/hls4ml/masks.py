"""hls4ml's functions that cast each element of a tensor to a type of its own, for back ends that hls4ml 1.3 does not write them for."""

import contextlib
from collections.abc import Iterator

from hgqjax.export.hls4ml import accelerator, catapult
from hgqjax.export.hls4ml.ac_types import mask_function


@contextlib.contextmanager
def mask_functions() -> Iterator[None]:
    """While it is open, hls4ml knows all back ends that are offered here; it asserts that a back end is one of a list."""
    from hls4ml.backends.fpga.passes import hgq_proxy_model

    before = hgq_proxy_model.generate_mask_fn

    def written(name, shape, k, b, i, RND, SAT, backend):
        if backend == catapult.NAME:
            return mask_function(name, shape, k, b, i, RND, SAT)
        return before(name, shape, k, b, i, RND, SAT, "Vivado" if backend == accelerator.NAME else backend)

    hgq_proxy_model.generate_mask_fn = written
    try:
        yield
    finally:
        hgq_proxy_model.generate_mask_fn = before
