"""Help texts, the version, and what the command says where a name is wrong."""

import contextlib
import importlib
import inspect
import io
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tyro

import hgqjax
from hgqjax import cli, methods
from hgqjax.cli import doctor, parse, sweep_help, sweep_options, train
from hgqjax.cli.synth import synth
from hgqjax.runs import networks
from hgqjax.synth import Settings

ROOT = Path(__file__).resolve().parents[2]


def said(*argv):
    """What the command prints, and its exit code."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = cli.main(list(argv))
        except SystemExit as stop:
            code = stop.code
    return code, out.getvalue(), err.getvalue()


def test_version_and_overview():
    assert said("--version") == (0, f"hgqjax {hgqjax.__version__}\n", "")
    for argv in ([], ["-h"], ["--help"]):
        code, out, err = said(*argv)
        assert (code, err) == (0, "") and all(f"\n  {name} " in out for name in cli.COMMANDS)


def test_nothing_is_said_to_a_reader_who_has_gone():
    for argv in (["sweep", "--help"], ["--version"]):
        command = [sys.executable, "-c", "import sys; from hgqjax import cli; sys.exit(cli.main())", *argv]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()  # before anything is written
        assert (process.stderr.read(), process.wait()) == (b"", cli.EXIT_NOBODY_READS)
        process.stderr.close()


def test_overview_and_version_import_neither_jax_nor_tyro():
    code = "import sys; from hgqjax import cli; cli.main(['--help']); cli.main(['--version']); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "hgqjax.cli" in loaded and not {"jax", "tyro", "numpy"} & set(loaded)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_is_a_function_with_arguments_that_are_explained(name):
    function = getattr(importlib.import_module(cli.COMMANDS[name][0]), name)
    doc = inspect.getdoc(function)
    assert all(re.search(rf"^ +{parameter}: ", doc, re.MULTILINE) for parameter in inspect.signature(function).parameters)


def test_an_unknown_command_lists_those_there_are():
    assert said("swep") == (2, "", f"hgqjax: swep is no command; legal are {', '.join(cli.COMMANDS)}\n")


@pytest.mark.parametrize(
    ("word", "legal"),
    [
        (
            "model.method:hqg",
            ", ".join(f"model.method:{sweep_options.choice_name(kind)}" for kind in sweep_options.CHOICES["model.method"]),
        ),
        ("model:lot", "model:mlp, model:lut, model:cnn, model:tracker"),
        ("train.penalty:ramp", "train.penalty:constant, train.penalty:log-ramp, train.penalty:budget, train.penalty:target"),
    ],
)
def test_an_unknown_choice_lists_those_there_are(word, legal):
    assert said("sweep", "--rows", "50", word, "--bits", "3") == (2, "", f"hgqjax: {word} is no choice; legal are {legal}\n")


def test_footers_name_the_command_that_has_help():
    for argv in (["sweep", "--row", "x"], ["summary", "--dat", "x"], ["export", "--io", "1"]):
        code, _, err = said(*argv)
        assert code == 2 and f"run hgqjax {argv[0]} --help" in " ".join(err.replace("│", "").split())


def test_help_of_sweep_has_every_option_once_and_first_those_that_matter(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    code, page, _ = said("sweep", "--help")
    assert code == 0 and max(map(len, page.splitlines())) <= 100 and "\nothers:" not in page  # each has its group
    flags = re.findall(r"^  (--[\w.-]+)", page, re.MULTILINE)
    assert tuple(flags[: len(sweep_help.FIRST)]) == sweep_help.FIRST and len(set(flags)) == len(flags)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        tyro.cli(train.sweep, args=["--help"], registry=parse.by_name(tyro))
    understood = re.findall(r"^[│| ] (--[a-z][\w.-]*)", out.getvalue(), re.MULTILINE)
    assert sorted(understood) == sorted(flag.replace("no-", "", 1) for flag in flags)
    choices = re.findall(r"^  ((?:model\.method|train\.penalty|train\.gradients):\S+)", page, re.MULTILINE)
    assert len(choices) == sum(map(len, sweep_options.CHOICES.values())) and all(choice in out.getvalue() for choice in choices)


def test_help_of_sweep_tells_defaults_and_words():
    found = {option.flag: option for option in sweep_options.options()}
    assert found["--betas"].words == "FLOAT ..." and found["--betas"].about.endswith("By default 4e-06 1.5e-05 5e-05 0.00015 0.00035.")
    assert found["--target-is"].words == "classes|labels|regression" and found["--rows"].about == "Use the first so many rows only."
    assert found["--train.objective.cost"].words == "ebops|ebops_paper_v1|luts|weight_bits|measured:FILE"
    assert found["--model.no-batch-norm"].about.startswith("Switches this off: ") and found["--results"].words == "PATH"


def test_help_of_sweep_says_what_the_package_says():
    again = "python -m hgqjax.cli.sweep_options"
    assert sweep_help.FILE.read_text() == sweep_options.page().json(), f"an option has changed; write the page again: {again}"


@pytest.mark.parametrize("name", ["sweep", "resume", "synth", "zoo", "summary"])
def test_help_does_not_import_jax(name):
    code = f"import sys, atexit; atexit.register(lambda: print(*sys.modules)); from hgqjax import cli; cli.main(['{name}', '--help'])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"usage: hgqjax {name} " in out and "jax" not in out.splitlines()[-1].split()


def test_defaults_of_synth_are_those_of_its_settings():
    defaults = {name: parameter.default for name, parameter in inspect.signature(synth).parameters.items()}
    settings = Settings()
    assert all(getattr(settings, name) == defaults[name] for name in ("tool", "timing", "verify", "time_limit", "max_luts"))


def test_help_of_a_choice_is_its_own():
    code, page, _ = said("sweep", "model.method:hmq", "--help")
    assert code == 0 and "--model.method.granularity" in page and "--betas" not in page


def test_a_network_is_chosen_by_a_word(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    code, page, _ = said("sweep", "model:lut", "--help")
    assert code == 0 and "--model.function mlp|spline|table" in page and "--model.function" not in said("sweep", "--help")[1]
    bound = parse.command("hgqjax.cli.train", "sweep", ["model:lut", "--model.hidden", "8", "4", "--rows", "50", "model.method:uniform"])
    assert bound.keywords["config"].model == networks.Lut(hidden=(8, 4), method=methods.Uniform()) and bound.keywords["config"].rows == 50


def test_doctor_says_what_a_missing_extra_gives(monkeypatch):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(doctor.GIVES) == set(extras)
    installed = {"jax": "0.10.2", "hls4ml": "1.4.0", "pyyaml": "6"}
    asked = {
        "hgqjax": [
            "jax>=0.8.1",
            'hls4ml<1.4,>=1.3; extra == "hls4ml"',
            'hls4ml[da]<1.4,>=1.3; extra == "da"',
            'hgqjax[da]; extra == "test"',
        ],
        "hls4ml": ["numpy", 'da4ml>=0.5; extra == "da"', 'keras; extra == "other"'],
    }

    def version(name):
        if name not in installed:
            raise doctor.importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    monkeypatch.setattr(doctor.importlib.metadata, "requires", asked.get)
    monkeypatch.setattr(doctor.shutil, "which", lambda tool: None)
    code, out, err = said("doctor")
    assert (code, err) == (0, "") and out.startswith(f"hgqjax {hgqjax.__version__} in ")
    lines = [line.strip() for line in out.splitlines()]
    assert "always     jax 0.10.2" in lines
    assert "hls4ml     no: hls4ml 1.4.0 (needs <1.4,>=1.3)" in lines
    assert "da         no: hls4ml 1.4.0 (needs <1.4,>=1.3), da4ml is missing" in lines
    assert "for hgqjax export --strategy distributed_arithmetic: pip install 'hgqjax[da]'" in lines
    assert "test       no: hls4ml 1.4.0 (needs <1.4,>=1.3), da4ml is missing" in lines
    assert "g++        is not on PATH; for the gate of hls4ml projects" in lines and "cpu:0 cpu" in lines


def test_doctor_needs_neither_tyro_nor_an_extra():
    code = "import sys; sys.modules['tyro'] = None; from hgqjax import cli; sys.exit(cli.main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, "doctor"], capture_output=True, text=True)
    assert done.returncode == 0 and "devices\n  cpu:0" in done.stdout
    done = subprocess.run([sys.executable, "-c", code, "summary", "x"], capture_output=True, text=True)
    assert done.returncode == 2 and "pip install 'hgqjax[run]'; hgqjax doctor says what is missing" in done.stderr
