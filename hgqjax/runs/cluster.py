"""Independent jobs: one after another in this process, or over the workers of a Dask cluster, which does those of a dead one again."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import itertools
import logging
import os
import re
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import jax

from hgqjax.errors import sentence

CONNECT_SECONDS = 5
POLL_SECONDS = 1.0
RETRIES = 2
"""How often a job is done again after an OSError, which a shared file system may give once; a dead worker's jobs Dask itself repeats."""
LEGAL = 'legal are "local", "local:N" (N processes here), a scheduler\'s address such as tcp://host:8786, and the path of a scheduler file'
CONFIG = ("jax_enable_x64", "jax_default_matmul_precision", "jax_default_prng_impl", "jax_threefry_partitionable")
CONFIG += ("jax_numpy_dtype_promotion", "jax_numpy_rank_promotion")
CONFIG += ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs", "jax_persistent_cache_min_entry_size_bytes")
LOCAL = {
    "distributed.deploy.lost-worker-timeout": "120s",  # a killed worker is started again; importing JAX takes its time on a busy machine
    "distributed.comm.timeouts.connect": "60s",
    "distributed.scheduler.worker-saturation": 1.0,  # jobs are long: a worker holds none in reserve
}


class ClusterError(RuntimeError):
    """A cluster that cannot be reached or that went away."""


class JobError(RuntimeError):
    """A job that failed for good; the message names it."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Where jobs run, of `connect`: in this process where `client` is None."""

    client: Any = None
    address: str = ""

    @property
    def slots(self) -> int:
        """Jobs that can run at once, now; 0 while a cluster has no workers."""
        return 1 if self.client is None else sum(self.client.nthreads().values())

    def map(
        self,
        function: Callable[..., Any],
        jobs: Mapping[str, tuple],
        *,
        done: Callable[[str, Any], None] = lambda name, result: None,
        tick: Callable[[], None] = lambda: None,
        at_once: int = 1,
    ) -> dict[str, Any]:
        """Results of ``function(*arguments)`` for each job, name -> arguments, in the order of `jobs`.

        Args:
          function: of a module, so that workers can import it. It may be called again for the same job, at the same time too when a worker
            is only believed dead: it must then find on disk what is done (`folders.do_once`).
          jobs: arguments that pickle takes, small ones: paths, numbers, frozen configurations.
          done: called in this process with a job's name and result, as they come in. tick: called about once a second meanwhile.
          at_once: without a cluster, jobs that run at the same time, each in a thread: for jobs that wait for other programs.

        Raises: JobError for the first job that fails for good, in one sentence; what has not begun is then called off. A job fails for good
        by an error of its own, or when it was on several workers that died. ClusterError where the cluster goes away.
        """
        if self.client is None:
            if at_once > 1 and len(jobs) > 1:
                return _beside(function, jobs, done, tick, at_once)
            return {name: _here(function, name, arguments, done) for name, arguments in jobs.items()}
        context, results, tries = _context(), {}, dict.fromkeys(jobs, 0)
        waiting = {self._submit(function, name, arguments, context): name for name, arguments in jobs.items()}
        try:
            while waiting:
                for future in self._some(waiting):
                    name = waiting.pop(future)
                    outcome = self._outcome(future, name)
                    if outcome.transient and tries[name] < RETRIES:
                        tries[name] += 1
                        waiting[self._submit(function, name, jobs[name], context)] = name
                        continue
                    if outcome.error:
                        error = JobError(f"{name}: {outcome.error}")
                        error.add_note(outcome.trace)
                        raise error
                    results[name] = outcome.value
                    done(name, outcome.value)
                tick()
        finally:
            if waiting:
                with contextlib.suppress(Exception):  # of a cluster that has gone
                    self.client.cancel(list(waiting), asynchronous=False)
        return {name: results[name] for name in jobs}

    def _submit(self, function, name: str, arguments: tuple, context: dict[str, Any]):
        return self.client.submit(_attempt, function, arguments, context, key=f"{name}-{uuid.uuid4().hex[:8]}", pure=False)

    def _some(self, waiting) -> list[Any]:
        """The futures that are over, after a second at most."""
        from distributed import wait

        try:
            with self.client.as_current():
                return list(cast(Any, wait(list(waiting), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED")).done)
        except TimeoutError:
            return []
        except concurrent.futures.CancelledError:  # the scheduler went away; `_outcome` says so
            return [future for future in waiting if future.done()]

    def _outcome(self, future, name: str) -> "_Outcome":
        from distributed import KilledWorker

        try:
            return future.result()
        except KilledWorker as error:
            workers = f"all {error.allowed_failures + 1} workers that had it" if error.allowed_failures else "its worker"
            raise JobError(
                f"{name} was given up, as {workers} died, the last one {error.last_worker.address}; see the workers' logs"
            ) from error
        except (OSError, concurrent.futures.CancelledError) as error:  # the jobs' own errors are in outcomes
            raise ClusterError(f"the cluster at {self.address} went away; what its jobs had done is kept") from error


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """What became of a job on a worker: errors as text, as not every error can be pickled."""

    value: Any = None
    error: str = ""
    trace: str = ""
    transient: bool = False


@contextlib.contextmanager
def connect(address: str = "") -> Iterator[Cluster]:
    """The cluster at `address` while the block runs; without an address this process alone.

    Args:
      address: "local" or "local:N" starts N worker processes here (by default one for each core) and ends them with the block; or the
        address of a Dask scheduler (``tcp://host:port``), or the path of its scheduler file, whose workers must see the same files.

    Raises: ClusterError within seconds where there is no scheduler; ValueError for another address; ImportError without `distributed`.
    """
    if not address:
        yield Cluster()
        return
    workers = _local_workers(address)
    if not workers and "://" not in address and not Path(address).exists():
        raise ValueError(f"cluster is {address!r}, which is no file; {LEGAL}")
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ImportError("a cluster needs Dask; pip install 'hgqjax[dask]'") from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        try:
            client = stack.enter_context(_local(workers) if workers else _remote(address))
        except Exception as error:  # of many kinds, as a scheduler file that is something else shows
            reason = sentence(error)[:200]
            raise ClusterError(f"cannot connect to a Dask scheduler at {address}: {reason}") from error
        yield Cluster(client, address)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Dask logs every connection, and every worker that dies; what matters of it comes as an error."""
    loggers = [logging.getLogger(name) for name in ("distributed", *logging.root.manager.loggerDict) if name.startswith("distributed")]
    levels = [(logger, logger.level) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)


def _local_workers(address: str) -> int:
    """N of "local:N"; 0 for another address."""
    if address.partition(":")[0] != "local":
        return 0
    if address == "local":
        return len(os.sched_getaffinity(0))
    if not re.fullmatch(r"local:[1-9]\d{0,3}", address):
        raise ValueError(f"cluster is {address!r}; {LEGAL}")
    return int(address.removeprefix("local:"))


@contextlib.contextmanager
def _local(workers: int) -> Iterator[Any]:
    """A client of `workers` new processes. They are spawned, as Dask does it: a forked JAX hangs."""
    import dask.config
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(LOCAL))
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="hgqjax-dask-", ignore_cleanup_errors=True))
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            local_directory=place,
            memory_limit=0,  # none: a worker over its share would be killed, and its job with it
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
            death_timeout="60s",
        )
        yield stack.enter_context(Client(stack.enter_context(cluster), set_as_default=False))


@contextlib.contextmanager
def _remote(address: str) -> Iterator[Any]:
    from distributed import Client

    where: dict[str, Any] = {"address": address} if "://" in address else {"scheduler_file": address}
    with Client(**where, timeout=CONNECT_SECONDS, set_as_default=False) as client:
        yield client


def _here(function, name: str, arguments: tuple, done) -> Any:
    try:
        result = function(*arguments)
    except Exception as error:
        raise JobError(f"{name}: {sentence(error)}") from error
    done(name, result)
    return result


def _beside(function, jobs: Mapping[str, tuple], done, tick, at_once: int) -> dict[str, Any]:
    """The jobs in threads of this process; after an error none is begun, and those that run come to their end."""
    results: dict[str, Any] = {}
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        todo, waiting = iter(jobs.items()), {}
        while len(results) < len(jobs):
            for name, arguments in itertools.islice(todo, at_once - len(waiting)):
                waiting[pool.submit(function, *arguments)] = name
            ready, _ = concurrent.futures.wait(waiting, POLL_SECONDS, concurrent.futures.FIRST_COMPLETED)
            for future in ready:
                name = waiting.pop(future)
                results[name] = _here(future.result, name, (), done)
            tick()
    return {name: results[name] for name in jobs}


def _context() -> dict[str, Any]:
    """What a worker must have as this process has it, for the same numbers."""
    return {
        "versions": _versions(),
        "config": {name: getattr(jax.config, name) for name in CONFIG},
    }


@functools.cache
def _versions() -> dict[str, str]:
    """Of what the numbers depend on; of hgqjax the source, as it was when this process first asked: workers may outlive an edit."""
    source = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        source.update(path.read_bytes())
    packages = {package: importlib.metadata.version(package) for package in ("jax", "jaxlib", "flax", "optax", "numpy")}
    return {"hgqjax": f"source {source.hexdigest()[:8]}"} | packages


def _attempt(function, arguments: tuple, context: dict[str, Any]) -> _Outcome:
    """On a worker: the job, and its error as a value, so that any other error is the cluster's."""
    try:
        for package, version in context["versions"].items():
            if _versions()[package] != version:
                what = f"has {package} {_versions()[package]}, its caller {version}"
                raise RuntimeError(f"the worker on {os.uname().nodename} {what}; start the workers again with the same packages")
        for name, value in context["config"].items():
            if getattr(jax.config, name) != value:
                jax.config.update(name, value)
        return _Outcome(function(*arguments))
    except Exception as error:
        if isinstance(error, OSError):
            time.sleep(POLL_SECONDS)  # it may pass
        return _Outcome(error=sentence(error), trace=traceback.format_exc(), transient=isinstance(error, OSError))
