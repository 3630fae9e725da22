"""The Python of the README and of docs/ is run, and the commands marked so; the others exist, and so do files that are named."""

import ast
import glob
import re
import shlex
from pathlib import Path

import pytest

import hgqjax
from hgqjax import cli
from hgqjax.reports import reader

ROOT = Path(__file__).resolve().parents[1]
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]}
TEXT = "\n".join(PAGES.values())
BLOCKS = [(name, n, code) for name, text in PAGES.items() for n, code in enumerate(re.findall(r"```python\n(.*?)```", text, re.S))]
RUN = {name: re.findall(r"<!-- run as a test -->\n```bash\n(.*?)```", text, re.S) for name, text in PAGES.items()}
TASKS = "docs/how-to/tasks.md"


@pytest.mark.parametrize(
    ("page", "code"),
    [
        pytest.param(page, code, id=f"{page}-{n}", marks=() if "class Stepped" in code else pytest.mark.slow)
        for page, n, code in BLOCKS
        if page != TASKS  # its commands need the files that it writes
    ],
)
def test_python_blocks_run(page, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, page, "exec"), {"__name__": "readme"})
    assert (tmp_path / "my_project").is_dir() == ("my_project" in code)


def run_commands(block, capsys):
    """One after the other, in the folder we are in, with * as the shell has it; what they print."""
    for line in block.splitlines():
        words = [found for word in shlex.split(line, comments=True) for found in (sorted(glob.glob(word)) or [word])]
        assert words[0] == "hgqjax" and cli.main(words[1:]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.slow
def test_the_first_three_commands_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    said = run_commands(RUN["README.md"][0], capsys)
    (run,) = tmp_path.glob("results/sweep/*")
    assert (run / "report.html").is_file() and len(list((run / "projects").iterdir())) == 1 and "EBOPs" in said


@pytest.mark.slow
def test_commands_of_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    others = RUN["README.md"][1:]
    assert len(others) == 2
    run_commands("".join(others), capsys)
    (run,) = tmp_path.glob("results/sweep/*")
    assert (run / "report.html").is_file() and f"run {run.name}" in (tmp_path / "results" / "jets.md").read_text()
    assert hgqjax.load(run).predict([[0.1] * 16]).shape == (1, 5)


def test_every_page_with_commands_to_run_has_its_test():
    assert {name for name, blocks in RUN.items() if blocks} == {"README.md", TASKS}


@pytest.mark.slow
def test_each_task_goes_from_its_file_to_a_verified_project(tmp_path, monkeypatch, capsys):
    """An autoencoder from parquet, two targets from csv, a weighted trigger from ROOT, and rows larger than the memory they are given."""
    pytest.importorskip("uproot")
    monkeypatch.chdir(tmp_path)
    (code,) = [code for page, _, code in BLOCKS if page == TASKS]
    exec(compile(code, TASKS, "exec"), {"__name__": "tasks"})
    said = run_commands("".join(RUN[TASKS]), capsys)
    assert "strange.parquet against sensors.parquet: AUC 0.9" in said
    assert "of rows are streamed from a scratch file" in said and said.count("streamed") == 1
    found = [reader.read(folder) for folder in sorted((tmp_path / "results/sweep").iterdir())]
    files = ("sensors.parquet", "hits.csv", "trigger.root", "events.parquet")
    assert [run.dataset for run in found] == [f"arrays {name}" for name in files]
    drawn = (
        ("reconstruction error", ["residual of s0 (sigma)"], lambda score: score < 0.6),  # 1 is what a constant gives
        ("resolution", ["residual of dx (mm)", "residual of dy (mm)"], lambda score: score < 0.6),  # mm
        ("AUC", ["% of the weight of each class", "share of the background that passes"], lambda score: score > 0.85),
        ("accuracy", ["% of the rows of each class", "share of the background that passes"], lambda score: score > 0.75),
    )
    for run, (name, words, good) in zip(found, drawn, strict=True):
        (point,) = run.points
        (gate,) = reader.gates(run.folder)
        assert run.score.name == name and good(point.test_score), (name, point.test_score)
        assert gate.words >= gate.rows >= 10_000 and gate.differing_words == 0 and point.differing_words == 0
        page, figure = (run.folder / "report.html").read_text(), (run.folder / "figures/test.svg").read_text()
        assert "verified" in page and all(word in figure and word in page for word in words), name


def part(code, name):
    """A file of the package made of an example: a docstring, the class, and of the imports those that it needs."""
    tree = ast.parse(code)
    (kind,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    first = kind.decorator_list[0].lineno if kind.decorator_list else kind.lineno
    body = "\n".join(code.splitlines()[first - 1 : kind.end_lineno])
    lines, used = [], {node.id for node in ast.walk(kind) if isinstance(node, ast.Name)}
    for node in tree.body[: tree.body.index(kind)]:
        node.names = [alias for alias in node.names if (alias.asname or alias.name) in used]
        lines += [ast.unparse(node)] if node.names else []
    return "\n".join([f'"""{name}, an example."""', "", *lines, "", "", body, ""])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("room", "file", "new", "case"),
    [
        ("quantizers", "stepped", "Stepped", "    quantizers.Stepped(),\n"),
        ("resources", "weight_memory", "WeightMemory", "    resources.WeightMemory(),\n"),
        ("layers", "scale", "Scale", '    "scale": (lambda rngs: layers.Scale(3), (3,)),\n'),
    ],
)
def test_one_file_one_line_in_the_index_one_in_the_table(room, file, new, case, package_copy):
    """Adds the part of an example to the package: while it is missing from the table a test fails, then all of its tests pass."""
    (code,) = [code for *_, code in BLOCKS if f"class {new}(" in code]
    (package_copy.path / "hgqjax" / room / f"{file}.py").write_text(part(code, new))
    index = package_copy.path / "hgqjax" / room / "__init__.py"
    index.write_text(index.read_text() + f"\nfrom hgqjax.{room}.{file} import {new}  # noqa\n")
    table = f"tests/{room}/test_contract.py"
    missing = package_copy.pytest(table, "-k", "public")
    assert missing.returncode == 1 and new in missing.stdout
    opening = re.search(r"^CASES = [\[{]", (package_copy.path / table).read_text(), re.M).group()
    package_copy.replace(table, opening, opening + "\n" + case)
    there = package_copy.pytest(table, "-k", f"{new} or {new.lower()} or public")
    assert there.returncode == 0, there.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", there.stdout).group(1)) >= 3


@pytest.mark.parametrize("name", sorted(set(re.findall(r"^hgqjax (\w+)", TEXT, re.M))))
def test_commands_have_help(name, capsys):
    try:
        code = cli.main([name, "--help"])
    except SystemExit as stop:  # of tyro
        code = stop.code
    assert code == 0 and f"usage: hgqjax {name}" in capsys.readouterr().out


def test_scripts_that_are_named_exist():
    named = set(re.findall(r"scripts/\w+(?:\.py)?", TEXT)) | set(re.findall(r"experiments/\w+\.md", TEXT))
    assert named and all((ROOT / name).exists() for name in named)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    anchors = {
        name: {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)", text, re.M)}
        for name, text in PAGES.items()
    }
    for link in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            there = ((ROOT / page).parent / path).resolve() if path else ROOT / page
            assert there.exists(), link
            assert not anchor or anchor in anchors[str(there.relative_to(ROOT))], link


def test_every_room_is_named():
    rooms = {path.name for path in (ROOT / "hgqjax").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    named = PAGES["README.md"].partition("## The rooms")[2]
    assert not [room for room in rooms - {"__init__.py"} if f"{room} " not in named and f"{room}/" not in named]


def test_no_number_is_left_to_fill_in():
    for text in (TEXT, (ROOT / "experiments" / "README.md").read_text()):
        assert not re.search("_PLACEHOLDER|_PARAGRAPH|_TIME|_EXPECTED", text)


@pytest.mark.parametrize("line", re.findall(r"^hgqjax sweep [^#\n]*", TEXT, re.M) + re.findall(r"`(hgqjax sweep --[^`]*)`", TEXT))
def test_sweeps_of_the_readme_are_understood(line, monkeypatch, tmp_path):
    seen = []
    for name in ("run", "prepare"):
        monkeypatch.setattr(f"hgqjax.runs.{name}", lambda config, root, **how: seen.append(config) or tmp_path)
    monkeypatch.setattr("hgqjax.runs.batch.write", lambda run, system: "")
    monkeypatch.setattr("hgqjax.cli.machines.Machines.join", lambda machines: None)  # there is no other process
    monkeypatch.setattr("hgqjax.cli.train.report", lambda run: None)
    assert cli.main(shlex.split(line)[1:]) == 0 and len(seen) == 1
