"""What is synthesised, with which tool and limits, and what came of it: two frozen dataclasses that become JSON."""

import dataclasses
import math

TOOLS = ("yosys", "vivado", "vitis")
FAMILY = {"yosys": "AMD UltraScale+", "ecp5": "Lattice ECP5 85k"}


class SynthError(ValueError):
    """A design that cannot be synthesised as asked; one sentence."""


class ToolError(RuntimeError):
    """A tool that is missing, that failed, or that ran out of time; one sentence."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How designs are synthesised.

    Args:
      tool: yosys (open; area for AMD UltraScale+, out of context); vivado (its own program, on PATH; area and timing after routing); or
        vitis (on PATH too; C synthesis of projects that hls4ml wrote, with the area that it estimates).
      clock_ns: target clock period, ns, for RTL that is made here; None is 5. RTL that exists has its own.
      latency_cutoff: as `hgqjax.export.to_rtl` takes it: adder levels in one clock; 0 for combinational RTL, None for as many as fit into
        `clock_ns`.
      timing: also place and route for Lattice ECP5 85k, with open tools, for a clock frequency.
      verify: rows on which the mapped netlist is simulated and compared with the model, word for word; 0 is none.
      time_limit: seconds that one tool may take for one design, > 0; it is ended then.
      max_luts: designs whose estimate is above are refused before a tool runs.

    Raises: SynthError for an illegal value.
    """

    tool: str = "yosys"
    clock_ns: float | None = None
    latency_cutoff: float | None = None
    timing: bool = False
    verify: int = 0
    time_limit: float = 1800.0
    max_luts: int = 60_000

    def __post_init__(self):
        if self.tool not in TOOLS:
            raise SynthError(f"tool is {self.tool!r}; legal are {', '.join(TOOLS)}")
        if self.latency_cutoff is not None and self.latency_cutoff != 0 and not 1 <= self.latency_cutoff < math.inf:
            raise SynthError(f"latency_cutoff is {self.latency_cutoff}; at least 1 adder level a cycle is needed, or 0 for no registers")
        for name in ("clock_ns", "time_limit"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise SynthError(f"{name} is {value}; a finite number above 0 is needed")
        if self.verify < 0 or self.max_luts < 1:
            raise SynthError(f"verify is {self.verify} and max_luts {self.max_luts}; at least 0 rows and 1 LUT are needed")
        if self.tool != "yosys" and (self.timing or self.verify):
            raise SynthError(f"timing (on ECP5) and verify belong to the tool yosys; {self.tool} gives its own timing, leave them out")
        if self.tool == "vitis" and not self.clock_ns is self.latency_cutoff is None:
            raise SynthError("hls4ml projects have their own clock; leave clock_ns and latency_cutoff out for vitis")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Synthesis:
    """One synthesised design: a row of synth.csv. Numbers that the tool does not give, or that were not asked for, are None.

    `status` is "done", "failed", "timeout" or "refused"; but for "done", `error` is a sentence.

    `lut` is the sum of LUT1 .. LUT6, where LUT1 contains inverters, which take a LUT too. `lut_sites` estimates the LUT6 sites that they
    take when small ones share one (see `hgqjax.synth.netlist.sites`), shift registers included: this is what Vivado counts as CLB LUTs.
    Yosys maps to CARRY4; `carry8` is how many CARRY8 their chains fill. `bram` is in blocks of 36 kbit. `fmax_mhz` is of `fmax_family`,
    a Lattice device for the open tools, and says nothing absolute about an AMD device. `key` names all that the row depends on, `content`
    the same without what was further asked for, timing and verification: rows of one `content` are of one design.
    """

    point: str
    status: str
    error: str = ""
    tool: str = ""
    tool_version: str = ""
    family: str = ""
    clock_ns: float | None = None
    latency_cutoff: float | None = None
    latency_cycles: int | None = None
    lut: int | None = None
    lut_sites: int | None = None
    lut1: int | None = None
    lut2: int | None = None
    lut3: int | None = None
    lut4: int | None = None
    lut5: int | None = None
    lut6: int | None = None
    muxf7: int | None = None
    muxf8: int | None = None
    ff: int | None = None
    srl: int | None = None
    carry4: int | None = None
    carry8: int | None = None
    dsp: int | None = None
    bram: float | None = None
    adder_cost: float | None = None
    ebops: float | None = None
    ebops_paper_v1: float | None = None
    fmax_mhz: float | None = None
    fmax_family: str = ""
    rows_checked: int | None = None
    differing_words: int | None = None
    seconds: float = 0.0
    key: str = ""
    content: str = ""
    folder: str = ""

    @property
    def done(self) -> bool:
        """Whether there are numbers."""
        return self.status == "done"
