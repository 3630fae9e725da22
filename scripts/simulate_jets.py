r"""Simulate LHC jets, and pack them into the data set that comes with hgqjax ("jets (re-simulated)").

    pip install 'hgqjax[simulation]'
    python scripts/simulate_jets.py simulate t 36000 1 t1.npz            # class, events, seed, file; 10 to 20 events/s
    python scripts/simulate_jets.py pack *1.npz --out hgqjax/data/jets_resim.npz
    python scripts/simulate_jets.py pack-particles *1.npz --out hgqjax/data/particles_resim.npz

The shipped jets_resim.npz was packed from the merged output of earlier runs (no simulation needed) by

    python scripts/simulate_jets.py pack ../shared/data/jets_resim/jets_resim.npz --keep-order \
        --scaler ../shared/data/jets_openml_real1000/jsc_openml_test1000.npz --out hgqjax/data/jets_resim.npz

and particles_resim.npz from 12 000 events of each class, seeds 4101 and 9203 (6 000 each), permuted, by

    python scripts/simulate_jets.py pack-particles ../shared/data/jets_particles_resim/jets_particles_60k.npz \
        --keep-order --rows 53000 --out hgqjax/data/particles_resim.npz

Recipe: Coleman et al., arXiv:1709.08705, as in github.com/nhanvtran/trackObservables (branch boostedPrecision-hls4ml, a3ea299d), which
made OpenML 42468. 13 TeV; transverse momentum of the hard process 995-1005 GeV (for gluons no upper cut); leading anti-kT jet,
R = 0.4; mMDT grooming (z_cut 0.1, beta 0); energy correlators after fjcontrib. W and Z are on shell and decay isotropically,
through an event file. What remains different: leading-order matrix elements of Pythia 8 instead of MadGraph5.
These rows are NOT rows of OpenML 42468; call results on them "re-simulated".
"""

import importlib.util
import pathlib
import sys
import tempfile
import time
from typing import Annotated, Literal

import numpy as np
import tyro

from hgqjax.data import DataError, arrays, jets, particles
from hgqjax.data.rows import JET_CLASSES, JET_FEATURES

PROCESSES = {
    "g": ("HardQCD:gg2gg = on", "HardQCD:qqbar2gg = on"),
    "q": ("HardQCD:gg2qqbar = on", "HardQCD:qq2qq = on", "HardQCD:qqbar2qqbarNew = on"),
    "w": ("WeakDoubleBoson:ffbar2WW = on",),
    "z": ("WeakDoubleBoson:ffbar2gmZgmZ = on", "WeakZ0:gmZmode = 2"),
    "t": ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on"),
}
BOSONS = {"w": (24, 80.419), "z": (23, 91.188)}  # particle number, mass in GeV
BEAM = ("Beams:eCM = 13000.", "PhaseSpace:pTHatMin = 995.")
HADRONIC_DECAYS = ("24:onMode = off", "24:onIfAny = 1 2 3 4 5", "23:onMode = off", "23:onIfAny = 1 2 3 4 5")
UPPER_CUT = "PhaseSpace:pTHatMax = 1005."
CHARGED, PHOTONS = (211, 321, 2212, 3112, 3222, 3312), (22, 111)
NEUTRAL, LEPTONS = (3122, 130, 310, 2112, 3322), (11, 13, 15)
JET_RADIUS, JET_PT_MIN, Z_CUT = 0.4, 100.0, 0.1  # radius in rapidity-azimuth, GeV, fraction
TRACK_PT_MAX, CELL_HADRONIC, CELL_ELECTROMAGNETIC, ETA_MAX, SMEARING = 220.0, 0.010, 0.005, 3.0, 0.5
MAX_BYTES = 8_000_000


def simulate(
    jet_class: Annotated[Literal["g", "q", "w", "z", "t"], tyro.conf.Positional],
    n: Annotated[int, tyro.conf.Positional],
    seed: Annotated[int, tyro.conf.Positional],
    out: Annotated[pathlib.Path, tyro.conf.Positional],
) -> None:
    """Simulate n events of one class with one seed; keep the leading jet of each in OUT, an .npz that hgqjax.data can load.

    Args:
      jet_class: gluon, light quark, W, Z or top.
      n: events; rows are up to two in a hundred fewer.
      seed: of Pythia and of the detector, 1 .. 400000000.
      out: file to write.
    """
    missing = [name for name in ("pythia8mc", "fastjet", "numba") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"simulate needs {', '.join(missing)}: pip install 'hgqjax[simulation]'")
    import numba

    correlators = numba.njit(fastmath=True)(energy_correlators)
    start, rows, lists = time.perf_counter(), [], []
    for seen in events(jet_class, n, seed, np.random.default_rng(seed * 7 + 3)):
        found = leading_jet(seen, correlators)
        if found is not None and np.all(np.isfinite(found[0])):  # as in the original, which drops undefined ratios
            rows.append(found[0])
            lists.append(found[1])
    found = np.array(rows, np.float32).reshape(-1, len(JET_FEATURES) + 3)
    x, (pt, eta, mass) = found[:, : len(JET_FEATURES)], found[:, len(JET_FEATURES) :].T
    constituents = np.array(lists, np.float16).reshape(-1, particles.MOST, len(particles.FEATURES))
    about = {"jet_pt": pt, "jet_eta": eta, "jet_mass": mass, "seed": seed, "constituents": constituents}
    labels = np.full(len(x), jet_class)
    np.savez_compressed(out, x=x, y=labels, feature_names=JET_FEATURES, **about)
    print(f"{jet_class}: {len(x)} rows of {n} events to {out}, {n / (time.perf_counter() - start):.1f} events/s")


def pack(
    inputs: Annotated[tuple[pathlib.Path, ...], tyro.conf.Positional],
    out: pathlib.Path,
    scaler: pathlib.Path | None = None,
    keep_order: bool = False,
    seed: int = 0,
) -> None:
    """Merge simulated files into the embedded format; the same files give the same bytes.

    Args:
      inputs: files of simulate, or any others that hgqjax.data can load and that hold these 16 features.
      out: file to write, below 8 000 000 bytes.
      scaler: .npz with scaler_mean and scaler_scale, 16 values each; None keeps those of the installed data set.
      keep_order: take all rows as they come, instead of equally many of each class, shuffled.
      seed: of the shuffling.
    """
    tables = [arrays.read(path) for path in inputs]
    for table in tables:
        if table.feature_names != JET_FEATURES or table.classes is None or not set(table.classes) <= set(JET_CLASSES):
            raise DataError(f"{table.where}: cannot be packed; it must hold the features {', '.join(JET_FEATURES)}")
    x = np.concatenate([table.x for table in tables]).astype(np.float32)
    y = np.concatenate([np.array([JET_CLASSES.index(c) for c in table.classes])[table.y] for table in tables])
    if not keep_order:
        order = balanced_order(y, np.random.default_rng(seed))
        x, y = x[order], y[order]
    with np.load(jets.FILE if scaler is None else scaler) as file:
        constants = {name: file[name].astype(np.float32) for name in ("scaler_mean", "scaler_scale")}
    np.savez_compressed(out, **jets.pack(x), y=y.astype(np.uint8), **constants)
    if out.stat().st_size >= MAX_BYTES:
        raise DataError(f"{out}: {out.stat().st_size} bytes for {len(x)} rows are too many; pack fewer rows")
    print(f"{len(x)} rows, {out.stat().st_size} bytes to {out}")


def pack_particles(
    inputs: Annotated[tuple[pathlib.Path, ...], tyro.conf.Positional],
    out: pathlib.Path,
    rows: int | None = None,
    keep_order: bool = False,
    seed: int = 0,
) -> None:
    """Merge the constituents of simulated files into the embedded format; the same files give the same bytes.

    Args:
      inputs: files of simulate; or with x, float16, (jets, 32, 3), and y, 0 .. 4 for g, q, t, w, z.
      out: file to write, below 8 000 000 bytes.
      rows: take only the first so many.
      keep_order: take all rows as they come, instead of equally many of each class, shuffled.
      seed: of the shuffling.
    """
    found = [constituents_of(path) for path in inputs]
    x, y = np.concatenate([x for x, _ in found]), np.concatenate([y for _, y in found])
    order = np.arange(len(y)) if keep_order else balanced_order(y, np.random.default_rng(seed))
    x, y = x[order[:rows]], y[order[:rows]]
    np.savez_compressed(out, **particles.pack(x), y=y)
    if out.stat().st_size >= MAX_BYTES:
        raise DataError(f"{out}: {out.stat().st_size} bytes for {len(x)} jets are too many; pack fewer rows")
    print(f"{len(x)} jets, {out.stat().st_size} bytes to {out}")


def constituents_of(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Constituents, float16, and labels in the order of JET_CLASSES, uint8, of one file."""
    with np.load(path) as file:
        if "constituents" in file.files:
            x, names = file["constituents"], file["y"].tolist()
        elif {"x", "y"} <= set(file.files) and file["x"].ndim == 3:
            x, names = file["x"], [("g", "q", "t", "w", "z")[n] for n in file["y"]]
        else:
            raise DataError(f"{path}: has no constituents of jets; simulate it again")
    return x, np.array([JET_CLASSES.index(name) for name in names], np.uint8)


def balanced_order(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices of equally many rows of each class in ``y``, the first of each, shuffled."""
    n = np.bincount(y, minlength=len(JET_CLASSES)).min()
    if n == 0:
        raise DataError(f"every class needs rows: {', '.join(JET_CLASSES)}")
    return rng.permutation(np.concatenate([np.flatnonzero(y == label)[:n] for label in range(len(JET_CLASSES))]))


def events(jet_class: str, n: int, seed: int, rng: np.random.Generator):
    """Yield n events as seen by the detector: (particles, 4), momentum x, y, z and energy, GeV."""
    with tempfile.TemporaryDirectory() as folder:
        if jet_class in BOSONS:
            path = pathlib.Path(folder, "bosons.lhe")
            write_boson_events(jet_class, int(n * 1.02) + 20, seed, path)
            settings = ["Beams:frameType = 4", f"Beams:LHEF = {path}"]
        else:
            settings = [*BEAM, *PROCESSES[jet_class], *([] if jet_class == "g" else [UPPER_CUT])]
        generator = make_generator(*settings, *HADRONIC_DECAYS, f"Random:seed = {seed}")
        failures = done = 0
        while done < n:
            if not generator.next():
                failures += 1
                if failures == 1000:
                    raise DataError(f"Pythia failed {failures} times, after {done} of {n} events")
                continue
            done += 1
            final = [(p.px(), p.py(), p.pz(), p.e(), p.id()) for p in generator.event if p.isFinal()]
            yield detect(np.array(final), rng)


def make_generator(*settings: str):
    import pythia8mc

    generator = pythia8mc.Pythia("", False)
    for setting in ("Print:quiet = on", "Random:setSeed = on", *settings):
        generator.readString(setting)
    if not generator.init():
        raise DataError(f"Pythia does not start with {'; '.join(settings)}")
    return generator


def write_boson_events(jet_class: str, n: int, seed: int, path: pathlib.Path) -> None:
    """Pairs of on-shell W or Z bosons as a Les Houches event file, so that Pythia lets them decay isotropically."""
    number, mass = BOSONS[jet_class]
    limits = (f"{number}:m0 = {mass}", f"{number}:mWidth = 0.0001", f"{number}:mMin = {mass - 0.01}")
    limits += (f"{number}:mMax = {mass + 0.01}", f"{number}:doForceWidth = on")
    stop = ("ProcessLevel:resonanceDecays = off", "PartonLevel:all = off")
    seeds = f"Random:seed = {seed + 500000}"
    generator = make_generator(*BEAM, *PROCESSES[jet_class], UPPER_CUT, seeds, *limits, *stop)
    with path.open("w") as file:
        file.write('<LesHouchesEvents version="1.0">\n<init>\n 2212 2212 6500 6500 0 0 247000 247000 3 1\n')
        file.write(" 1.0 0.1 1.0 1\n</init>\n")
        written = 0
        while written < n:
            lines = boson_lines(generator.process, number) if generator.next() else []
            if len(lines) == 4:  # two incoming partons, two bosons
                file.write("<event>\n 4 1 1.0 1003.0 0.0078 0.09\n" + "\n".join(lines) + "\n</event>\n")
                written += 1
        file.write("</LesHouchesEvents>\n")


def boson_lines(process, number: int) -> list[str]:
    lines = []
    for i in range(process.size()):
        p = process[i]
        status = -1 if p.status() == -21 else 1 if abs(p.id()) == number and i in (5, 6) else 0
        if status:
            momentum = " ".join(f"{v:.10e}" for v in (p.px(), p.py(), p.pz(), p.e(), p.m()))
            mothers = "0 0" if status < 0 else "1 2"
            lines.append(f" {p.id()} {status} {mothers} {p.col()} {p.acol()} {momentum} 0 9")
    return lines


def detect(final: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Smeared tracks, and calorimeter cells in place of photons, neutral hadrons and charged hadrons above TRACK_PT_MAX.

    ``final`` holds momentum x, y, z, energy (GeV) and the particle number of each stable particle.
    """
    px, py, pz, energy = final[:, :4].T
    number = final[:, 4].astype(int)
    kind = np.abs(number)
    pt, phi = np.hypot(px, py), np.arctan2(py, px) % (2 * np.pi)
    eta = np.arcsinh(pz / np.maximum(pt, 1e-12))
    charged = np.isin(kind, CHARGED)
    kept = (charged & (pt <= TRACK_PT_MAX)) | np.isin(kind, LEPTONS)
    hadronic = np.isin(kind, NEUTRAL) | (charged & ~(pt <= TRACK_PT_MAX))
    cells = calorimeter(eta[hadronic], phi[hadronic], energy[hadronic], CELL_HADRONIC)
    photons = np.isin(number, PHOTONS)
    cells_photon = calorimeter(eta[photons], phi[photons], energy[photons], CELL_ELECTROMAGNETIC)
    e_had, e_em = cells[:, 3], cells_photon[:, 3]
    resolution = (
        np.sqrt((0.00025 * pt[kept]) ** 2 + 0.015**2),
        np.sqrt(1.2**2 * 7.0 / e_had + 0.05**2),
        np.sqrt(0.027**2 * 1.6 / e_em + (0.15 * 1.6 / e_em) ** 2 + 0.005**2),
    )
    seen = np.concatenate([final[kept, :4], cells, cells_photon])
    width = np.concatenate(resolution)
    return seen * np.maximum(1e-10, 1.0 + width * SMEARING * rng.normal(size=len(width)))[:, None]


def calorimeter(eta: np.ndarray, phi: np.ndarray, energy: np.ndarray, cell: float) -> np.ndarray:
    """Energy summed in cells of pseudorapidity and azimuth, as massless momenta; cells are stretched to fill the range."""
    n_eta, n_phi = int(np.floor(2 * ETA_MAX / cell)), int(np.floor(2 * np.pi / cell))
    width_eta, width_phi = 2 * ETA_MAX / n_eta, 2 * np.pi / n_phi
    inside = np.abs(eta) < ETA_MAX
    i = np.floor((eta[inside] + ETA_MAX) / width_eta).astype(int)
    j = np.minimum(np.floor(phi[inside] / width_phi).astype(int), n_phi - 1)
    cells, which = np.unique(i * n_phi + j, return_inverse=True)
    total = np.bincount(which, weights=energy[inside], minlength=len(cells))
    hit = total > 1e-9
    cells, total = cells[hit], total[hit]
    eta, phi = -ETA_MAX + (cells // n_phi + 0.5) * width_eta, (cells % n_phi + 0.5) * width_phi
    pt = total / np.cosh(eta)
    return np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), total], axis=1)


def leading_jet(seen: np.ndarray, correlators) -> tuple[list[float], np.ndarray] | None:
    """The 16 observables of the hardest jet, then its transverse momentum, pseudorapidity and mass; and its hardest constituents.

    None without a jet.
    """
    import fastjet

    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, JET_RADIUS)
    clusters = fastjet.ClusterSequence([fastjet.PseudoJet(*p) for p in seen.tolist()], definition)
    found = fastjet.sorted_by_pt(clusters.inclusive_jets(JET_PT_MIN))
    if not len(found):
        return None
    jet = found[0]
    constituents = jet.constituents()
    share = np.array([c.e() for c in constituents]) / jet.e()
    share = share[share > 0]
    zlogz = float(np.sum(share * np.log(share)))
    _clusters, groomed = groom(constituents)  # the first owns the second: keep both
    inner = groomed.constituents()
    pt = np.array([c.pt() for c in inner])
    rapidity, phi = np.array([c.rap() for c in inner]), np.array([c.phi() for c in inner])
    e2, e3, v1, v2 = correlators(pt / pt.sum(), rapidity, phi)
    with np.errstate(all="ignore"):
        c2, d2 = e3 / e2[1:] ** 2, e3 / e2[1:] ** 3
        m2, n2 = v1 / e2[1:], v2 / e2[1:] ** 2
        observables = [zlogz, *e2, *c2, *d2, d2[0], e3[0] / e2[2] ** 1.5, *m2, *n2, groomed.m(), float(len(constituents))]
    return [*observables, jet.pt(), jet.eta(), jet.m()], hardest(jet, constituents)


def hardest(jet, constituents) -> np.ndarray:
    """(32, 3): transverse momentum, and pseudorapidity and azimuth relative to the jet, of its hardest constituents; then zeros."""
    found = np.array([(c.pt(), c.eta() - jet.eta(), c.phi() - jet.phi()) for c in constituents])
    found[:, 2] = (found[:, 2] + np.pi) % (2 * np.pi) - np.pi
    found = found[np.argsort(-found[:, 0], kind="stable")][: particles.MOST]
    return np.concatenate([found, np.zeros((particles.MOST - len(found), 3))])


def groom(constituents):
    """Modified mass drop: recluster by angle, undo steps until both branches carry more than Z_CUT of transverse momentum."""
    import fastjet

    definition = fastjet.JetDefinition(fastjet.cambridge_algorithm, 1000.0)
    clusters = fastjet.ClusterSequence(list(constituents), definition)
    jet = fastjet.sorted_by_pt(clusters.inclusive_jets())[0]
    first, second = fastjet.PseudoJet(), fastjet.PseudoJet()
    while jet.has_parents(first, second):
        a, b = first.pt(), second.pt()
        if min(a, b) / (a + b) > Z_CUT:
            break
        jet = fastjet.PseudoJet(first if a >= b else second)
        first, second = fastjet.PseudoJet(), fastjet.PseudoJet()
    return clusters, jet


def energy_correlators(z, rapidity, phi):
    """Sums over pairs and triples of momentum shares z and distances; numba compiles it.

    Returns e2 for beta 0, 1, 2, then for beta 1, 2: e3; its variants with the smallest distance alone (v1), and with the product
    of the two smallest (v2).
    """
    n = len(z)
    e2, e3, v1, v2 = np.zeros(3), np.zeros(2), np.zeros(2), np.zeros(2)
    distance = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1, n):
            turn = abs(phi[i] - phi[j])
            turn = min(turn, 2 * np.pi - turn)
            d = np.sqrt((rapidity[i] - rapidity[j]) ** 2 + turn * turn)
            distance[i, j] = d
            distance[j, i] = d
            w = z[i] * z[j]
            e2[0] += w
            e2[1] += w * d
            e2[2] += w * d * d
    for i in range(n):
        for j in range(i + 1, n):
            pair = z[i] * z[j]
            for k in range(j + 1, n):
                w = pair * z[k]
                a, b, c = distance[i, j], distance[i, k], distance[j, k]
                product, smallest, largest = a * b * c, min(a, b, c), max(a, b, c)
                two = product / largest if largest > 0 else 0.0
                e3[0] += w * product
                e3[1] += w * product * product
                v1[0] += w * smallest
                v1[1] += w * smallest * smallest
                v2[0] += w * two
                v2[1] += w * two * two
    return e2, e3, v1, v2


if __name__ == "__main__":
    try:
        tyro.extras.subcommand_cli_from_dict({"simulate": simulate, "pack": pack, "pack-particles": pack_particles}, description=__doc__)
    except DataError as error:
        sys.exit(str(error))
