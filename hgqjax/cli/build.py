"""The command `hgqjax build`."""

from pathlib import Path

from tyro.conf import Positional


def build(project: Positional[Path], *, steps: tuple[str, ...] = ("csim", "synth"), time_limit: float = 36_000.0) -> None:
    """Build an hls4ml project with Vitis HLS or Vivado HLS on PATH, compare what it simulates, and print what it reports.

    The compiler works in the project, with hls4ml's own build_prj.tcl; hgqjax_build.json in it keeps the numbers.

    Args:
      project: the folder that `hgqjax export` wrote.
      steps: csim, synth, cosim, vsynth (Vivado's synthesis), export (an IP), fifo_opt (FIFO depths of io_stream by a co-simulation).
        Simulations run the rows of tb_data; a differing output ends the command with exit code 2.
      time_limit: seconds after which the compiler is ended.
    """
    from hgqjax.synth.build import build as run

    print(run(project, steps, time_limit=time_limit))
