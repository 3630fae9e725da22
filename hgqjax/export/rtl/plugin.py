"""alkaid's way to a model description: with this entry point `alkaid.converter.trace_model(description)` and its commands take one.

The base class is alkaid's; nothing else in hgqjax imports this module.
"""

from typing import Any

import numpy as np
from alkaid.converter.plugin import ALIRTracerPluginBase
from alkaid.trace import FVArray
from alkaid.trace.fixed_variable import FVariableInput

from hgqjax.description.model import ModelDescription
from hgqjax.export.gate import ExportError
from hgqjax.export.rtl import ports, trace


class Tracer(ALIRTracerPluginBase):
    """Traces a `ModelDescription`; without inputs given, those of `rtl_ports.input_ports`."""

    model: ModelDescription

    def get_input_shapes(self):
        """Shapes of the inputs."""
        return [op.shape for op in self.model.inputs]

    def _get_inputs(self, inputs, inputs_kif):
        if inputs is None and inputs_kif is None:
            pairs = zip(self.model.inputs, ports.input_ports(self.model), strict=True)
            arrays = (FVArray.from_kif(p.k, p.i, p.f, self.hwconf, 0.0, self.solver_options).reshape(op.shape) for op, p in pairs)
            return tuple(arrays)
        return super()._get_inputs(inputs, inputs_kif)

    def apply_model(self, verbose, inputs):
        """All operations by name, and the names of the outputs."""
        trace.check_words(self.model)
        sources = {op.name: np.asarray(x) for op, x in zip(self.model.inputs, inputs, strict=True)}
        if any(isinstance(v, FVariableInput) for x in sources.values() for v in x.ravel()):
            raise ExportError("hgqjax traces inputs of known formats; give inputs_kif, or leave the inputs out")
        values = trace.apply(self.model, sources, dict(self.solver_options or {}))
        # constants come without the caller's adders
        for array in values.values():
            for n in np.ndindex(array.shape):
                element: Any = array[n]
                array[n] = element if element.hwconf == self.hwconf else element._with(hwconf=self.hwconf)
        return {name: FVArray(x, self.solver_options, self.hwconf) for name, x in values.items()}, list(self.model.outputs)
