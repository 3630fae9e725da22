"""Rows in .root files: the branches of a tree are the columns of a table. They are read by uproot."""

import pathlib
from typing import Any, cast

import numpy as np

from hgqjax.archives import ArchiveError
from hgqjax.data.column import Column, streamed
from hgqjax.data.columns import FEATURES, Columns, known, listed
from hgqjax.data.dataset import DataError
from hgqjax.data.tables import Table
from hgqjax.errors import first_line


def read(path: pathlib.Path, columns: Columns = Columns()) -> Table:
    """The branches of a tree (TTree or RNTuple) that hold one number, or one text, for each entry.

    Where ``columns`` names the features, only these and what else it names are read. Branches with several values for each entry (arrays,
    vectors) are left out, with a note, or refused where they are named. Reading needs uproot (``hgqjax[root]``).

    Raises: DataError where the file cannot be read, or it is not clear which tree is meant.
    """
    try:
        import uproot.source.file  # noqa: F401
    except ImportError:
        raise DataError(f"{path}: reading .root files needs uproot; pip install 'hgqjax[root]'") from None
    try:
        with _opened(path) as file:
            return _table(file, path, columns)
    except DataError:
        raise
    except Exception as error:  # whatever the library makes of a damaged file
        raise DataError(f"{path}: cannot be read as ROOT ({first_line(error)})") from None


def _opened(path: pathlib.Path) -> Any:
    import uproot.source.file

    # its default handler starts threads, which a damaged file can hang
    return cast(Any, uproot.open(path, handler=uproot.source.file.MemmapSource))


def _table(file, path: pathlib.Path, columns: Columns) -> Table:
    trees = [name for name, kind in file.classnames(cycle=False).items() if kind == "TTree" or "RNTuple" in kind]
    if not trees:
        raise DataError(f"{path}: holds no tree, but {listed(file.classnames(cycle=False))}")
    if len(trees) > 1 and not columns.table:
        raise DataError(f"{path}: holds the trees {listed(trees)}; name one with --table")
    tree_name = known(columns.table, trees, str(path), "tree") if columns.table else trees[0]
    tree = file[tree_name]
    branches = {name: str(tree[name].typename) for name in tree.keys(recursive=True) if "/" not in name}
    flat = [name for name, kind in branches.items() if not any(mark in kind for mark in "[<{*")]
    target = () if columns.target == (FEATURES,) else columns.target
    asked = tuple(dict.fromkeys(name for name in (*columns.features, *target, columns.weight, columns.split) if name))
    for name in asked:
        known(name, branches, str(path), "branch")
        if name not in flat:
            raise DataError(f"{path}: branch {name!r} holds {branches[name]}, several values an entry; one number an entry is needed")
    wanted = list(asked) if columns.features and columns.target else flat
    rows = int(tree.num_entries)
    left_out = [name for name in branches if name not in flat]
    notes = (f"branches with several values an entry are left out: {listed(left_out)}",) if left_out else ()
    try:
        in_file = streamed(8 * rows * len(wanted), path.stat().st_size, f"{rows} entries of {len(wanted)} branches")
    except ArchiveError as error:
        raise DataError(f"{path}: {error}; read fewer branches with --features") from None
    if in_file:
        return Table({name: _column(path, tree_name, tree, name) for name in wanted}, notes=notes)
    found = tree.arrays(wanted, library="np")
    return Table({name: np.asarray(found[name]) for name in wanted}, notes=notes)


def _column(path: pathlib.Path, tree_name: str, tree, name: str) -> Column:
    """A branch of which the entries are read that are asked for."""

    def read(start: int, stop: int) -> np.ndarray:
        with _opened(path) as file:
            return file[tree_name][name].array(entry_start=start, entry_stop=stop, library="np")

    dtype = np.asarray(tree[name].array(entry_stop=1, library="np")).dtype
    return Column(str(path), name, dtype.newbyteorder("="), int(tree.num_entries), read)
