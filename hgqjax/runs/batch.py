"""Files for a batch system: a job array trains the groups of a run, a job that waits for it does the rest."""

import shlex
import sys
from pathlib import Path
from typing import Literal

from hgqjax.config import from_json
from hgqjax.files import write_atomically
from hgqjax.runs.folders import Run
from hgqjax.runs.sweep import Sweep

System = Literal["slurm", "htcondor"]


def write(run: Path, system: System) -> str:
    """Writes the files of `system` into ``<run>/batch`` and returns the command that submits them. A task of the array trains one group.

    Each job runs this Python and sees the run folder and the data under the same paths. Memory, time and partition are the site's
    business: edit the files, or give them to ``sbatch`` or ``condor_submit_dag``.

    Args:
      run: a run folder, as `hgqjax.runs.prepare` makes it.

    Raises: RunError where it is none.
    """
    groups = len(from_json(Sweep, Run.open(run).manifest["config"]).division())
    folder = run.absolute() / "batch"
    folder.mkdir(exist_ok=True)
    files = (_slurm if system == "slurm" else _htcondor)(folder, groups)
    for name, text in files.items():
        write_atomically(folder / name, text)
    command, name = ("bash", "submit.sh") if system == "slurm" else ("condor_submit_dag -usedagdir", "run.dag")
    return f"{command} {shlex.quote(str(folder / name))}"


def _resume(folder: Path) -> list[str]:
    return ["-m", "hgqjax.cli", "resume", str(folder.parent)]


def _slurm(folder: Path, groups: int) -> dict[str, str]:
    log, command = shlex.quote(str(folder)), shlex.join([sys.executable, *_resume(folder)])
    head = "#!/bin/bash\n#SBATCH --job-name=hgqjax-{name}\n#SBATCH --output={log}/{name}{task}.log\n#SBATCH --cpus-per-task={cores}\n"
    train = head.format(name="train", log=log, task="_%a", cores=1)
    finish = head.format(name="finish", log=log, task="", cores=2)
    return {
        "train.sbatch": f'{train}#SBATCH --array=0-{groups - 1}\nexec {command} --group "$SLURM_ARRAY_TASK_ID"\n',
        "finish.sbatch": f"{finish}exec {command}\n",
        "submit.sh": "#!/bin/bash\nset -euo pipefail\n"
        f"trained=$(sbatch --parsable {log}/train.sbatch)\n"
        f'sbatch --dependency="afterok:${{trained%%;*}}" {log}/finish.sbatch\n',
    }


def _htcondor(folder: Path, groups: int) -> dict[str, str]:
    def job(name: str, arguments: list[str], cores: int, queue: str) -> str:
        quoted = " ".join("'" + argument.replace("'", "''") + "'" for argument in arguments).replace('"', '""')
        lines = [f"executable = {sys.executable}", f'arguments = "{quoted}"', "getenv = True", f"request_cpus = {cores}"]
        logs = [f"{kind} = {folder}/{name}{'_$(Process)' if queue != 'queue' else ''}.{kind}" for kind in ("output", "error")]
        return "\n".join([*lines, *logs, f"log = {folder}/{name}.log", queue, ""])

    return {
        "train.sub": job("train", [*_resume(folder), "--group", "$(Process)"], 1, f"queue {groups}"),
        "finish.sub": job("finish", _resume(folder), 2, "queue"),
        "run.dag": "JOB train train.sub\nJOB finish finish.sub\nPARENT train CHILD finish\nRETRY train 3\n",  # which takes no blanks
    }
