"""Where the workers come from: an existing Dask cluster, workers on this machine, or jobs of SLURM."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.config
from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.security import Security
from distributed.versions import VersionMismatchWarning

from ..errors import UserError
from ..instruments import host
from .machines import PROCESSORS_VARIABLE

CONNECT_S = 10.0
PACKAGES = ("distributed", "dask", "python")  # that must be alike: they speak with each other
KEPT_VARIABLE = "DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH"  # of Dask's configuration
KEPT_MESSAGES = 10  # of each connection, and of each topic


@dataclass(frozen=True)
class Slurm:
    """What a job of SLURM asks for: one worker, alone on its machine."""

    machines: int
    queue: str | None = None
    account: str | None = None
    walltime: str = "02:00:00"
    memory: str = "8GB"
    cores: int = 1
    directives: tuple[str, ...] = ()


def security_of(ca: Path | None, cert: Path | None, key: Path | None) -> Security | None:
    """Dask's settings for connections with TLS; None where no file is given, and Dask's own configuration counts.

    Raises:
        UserError: one of the files is missing.
    """
    files = {"--tls-ca": ca, "--tls-cert": cert, "--tls-key": key}
    if not any(files.values()):
        return None
    for option, path in files.items():
        if path is None or not path.is_file():
            raise UserError(
                f"{option} {path or ''}: TLS needs a file for each of {', '.join(files)}".replace(" :", ":")
            )
    names = {"tls_ca_file": str(ca), "require_encryption": True}
    for role in ("client", "scheduler", "worker"):
        names |= {f"tls_{role}_cert": str(cert), f"tls_{role}_key": str(key)}
    return Security(**names)


@contextlib.contextmanager
def connected(address: str, security: Security | None, limit_s: float) -> Iterator[Client]:
    """A client of the scheduler at an address, which has ``limit_s`` to answer; closed when the block ends.

    Raises:
        UserError: no scheduler answers there, or it or a worker has another version of Dask.
    """
    configure()
    if address.startswith("tls://") and security is None and Security().tls_ca_file is None:
        raise UserError(f"--scheduler {address}: TLS needs --tls-ca, --tls-cert and --tls-key, or Dask's configuration")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)  # checked here, in one line
            client = Client(address, timeout=min(CONNECT_S, limit_s), security=security, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"--scheduler {address}: no scheduler answers there ({reason})") from None
    try:
        check_versions(client)
        yield client
    finally:
        with contextlib.suppress(OSError, TimeoutError):
            client.close(timeout=CONNECT_S)


def check_versions(client: Client) -> None:
    """Make sure that scheduler, workers and this client have the same Dask.

    Raises:
        UserError: one of them has another one.
    """
    found = client.get_versions()
    mine = found["client"]["packages"]
    others = {"the scheduler": found["scheduler"], **{f"worker {name}": its for name, its in found["workers"].items()}}
    for who, its in others.items():
        for package in PACKAGES:
            theirs = its["packages"].get(package) if its else "no answer"
            if theirs != mine[package]:
                raise UserError(f"{who} has {package} {theirs}, here is {mine[package]}: install the same on both")


@contextlib.contextmanager
def local_cluster(workers: int, *, apart: bool) -> Iterator[Client]:
    """A client of a cluster on this machine, gone when the block ends.

    With ``apart`` each worker counts as a machine of its own, on processors of its own as far as there are enough.
    """
    configure()
    spec = {
        place: {"cls": Nanny, "options": {"nthreads": 1, "memory_limit": 0, "env": _environment(place, workers)}}
        if apart
        else {"cls": Nanny, "options": {"nthreads": 1, "memory_limit": 0}}
        for place in range(workers)
    }
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}}
    with (
        SpecCluster(workers=spec, scheduler=scheduler, silence_logs=logging.CRITICAL) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(workers)
        yield client


def _environment(place: int, workers: int) -> dict[str, str]:
    processors = host.processors() or list(range(host.cores()))
    mine = processors[place::workers] or [processors[place % len(processors)]]
    return {host.MACHINE_VARIABLE: f"local-{place + 1}", PROCESSORS_VARIABLE: " ".join(map(str, mine))}


@contextlib.contextmanager
def slurm_cluster(slurm: Slurm, security: Security | None) -> Iterator[Client]:
    """A client of a cluster whose workers are jobs of SLURM, ended when the block ends.

    Raises:
        UserError: SLURM takes no job.
    """
    configure()
    with _slurm_cluster(slurm, security) as cluster:
        try:
            cluster.scale(jobs=slurm.machines)
            client = Client(cluster, set_as_default=False)
            client.wait_for_workers(1)
        except (OSError, RuntimeError) as error:
            raise UserError(f"--slurm: no job was taken ({error})") from None
        with client:
            yield client


def job_script(slurm: Slurm, security: Security | None) -> str:
    """The script of one job, as it would be given to sbatch."""
    configure()
    with _slurm_cluster(slurm, security) as cluster:
        return str(cluster.job_script())


def _slurm_cluster(slurm: Slurm, security: Security | None) -> Any:
    from dask_jobqueue import SLURMCluster  # noqa: PLC0415 - it reads configuration and is slow to import

    return SLURMCluster(
        queue=slurm.queue,
        account=slurm.account,
        walltime=slurm.walltime,
        memory=slurm.memory,
        cores=1,  # tasks at a time
        processes=1,
        job_cpu=slurm.cores,
        job_extra_directives=["--exclusive", *slurm.directives],
        security=security,
    )


def configure() -> None:
    """Keep Dask's own log off the terminal, where a user's mistake is one line, and few messages in memory.

    Dask keeps the latest messages of each connection, with the orders that are in them, for whoever looks into its own
    faults: so many that a worker hardly gets in a run, and memory grows all the time. What is started here inherits
    both settings.
    """
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")
    if KEPT_VARIABLE not in os.environ:
        os.environ[KEPT_VARIABLE] = str(KEPT_MESSAGES)
        dask.config.set({"distributed.admin.low-level-log-length": KEPT_MESSAGES})
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
