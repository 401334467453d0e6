"""How a run on many machines is opened: begun in a folder of its own, or a stored one resumed."""

import dataclasses
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from distributed import Client

from ..errors import UserError
from ..instruments import bandwidth
from ..operations.cases import Case, is_own, is_target
from ..storage.files import make_folder
from ..storage.results import find_run, load_run
from ..sweep.opening import describe
from ..sweep.options import Options
from ..sweep.plugin import STORED_TIMING, TIMING
from ..verification.competitor import competitors_of
from . import worker
from .driver import Driver, Follower, Plan, machine_of
from .machines import digest
from .messages import from_plain, to_plain
from .shares import PATIENCE_S, SHARE_MINUTES, Share, shares_of
from .store import FleetStore, load_plan, store_plan

LOOK_AGAIN_S = 0.5  # for new machines


@dataclass(frozen=True)
class FleetOptions:
    """What a user may say about a run on many machines, besides what is said about any sweep."""

    everywhere: bool = True
    replicas: int = 2
    share_minutes: float = SHARE_MINUTES
    patience_s: float = PATIENCE_S
    keep_apart: bool = False
    send: bool = False
    wait_for: int = 0


def await_machines(client: Client, count: int, said: Callable[[str], None]) -> None:
    """Wait until workers of so many machines are there, whose shares are then planned; ``said`` is told who is there.

    Raises:
        UserError: a worker lacks the suite, or the scheduler is gone.
    """
    machines: dict[str, str] = {}  # by the addresses of their workers
    told = -1
    while True:
        try:
            there = set(client.nthreads())
            new = sorted(there - machines.keys())
            answers = client.run(worker.describe, workers=new, on_error="return") if new else {}
        except (OSError, TimeoutError):
            raise UserError("the scheduler is gone") from None
        gone = {address for address, answer in answers.items() if isinstance(answer, OSError)}  # since it was listed
        machines |= {address: machine_of(address, answers[address]).machine for address in answers.keys() - gone}
        names = sorted({machines[address] for address in there - gone})
        if len(names) >= count:
            return
        if len(names) != told:
            told = len(names)
            said(f"waiting for {count} machines; there: {', '.join(names) or 'none yet'}")
        time.sleep(LOOK_AGAIN_S)


def begin(client: Client, options: Options, fleet: FleetOptions) -> tuple[FleetStore, Plan]:
    """A new run in its own folder, and its plan.

    Raises:
        UserError: the run exists already, its folder cannot be written, or no worker can say what there is to measure.
    """
    competitors = send_competitors(client, options, fleet)
    timing = {name: float(TIMING[name]) for name in STORED_TIMING}
    described = describe(options, timing, round(bandwidth.fresh_stream_bytes_per_s()))
    run = dataclasses.replace(described, machine_id="", fleet=dataclasses.asdict(fleet))
    folder = options.results / run.run_id
    if folder.exists():
        raise UserError(f"{folder}: exists already; resume it (--resume={run.run_id}) or choose another name")
    shares = shares_of(_cases_of_a_worker(client, options, competitors), options.box_minutes, fleet.share_minutes)
    make_folder(folder)
    store_plan(shares, folder)  # before run.json: what can be found can be resumed
    return FleetStore(run, folder), _plan(shares, fleet, competitors)


def resume(client: Client, name: str, options: Options, fleet: FleetOptions) -> tuple[FleetStore, Plan]:
    """A stored run opened again, with its own options save patience and what its machines may lack.

    Raises:
        UserError: there is no such run, it is one of a single machine, or the suite's code has changed since.
    """
    folder = find_run(name, options.results)
    stored = load_run(folder)
    if not stored.fleet:
        raise UserError(f"{folder}: a run of one machine; softmax-bench run --resume={name} goes on with it")
    now = describe(dataclasses.replace(options, run_id=stored.run_id), {}, 0.0)
    if digest(now.code) != digest(stored.code):
        raise UserError(f"{folder} cannot be resumed: the suite's code has changed; start a new run")
    its = from_plain(stored.fleet, FleetOptions)
    its = dataclasses.replace(its, patience_s=fleet.patience_s, wait_for=fleet.wait_for)
    competitors = send_competitors(client, Options(implementation=tuple(stored.selection["implementation"])), its)
    return FleetStore(stored, folder), _plan(load_plan(folder), its, competitors)


def driver_of(client: Client, store: FleetStore, plan: Plan, follower: Follower, *, new: bool) -> Driver:
    """The driver of an opened run; a new run that is refused leaves no folder behind.

    Raises:
        UserError: see `Driver`.
    """
    try:
        return Driver(client, store, plan, follower)
    except UserError:
        if new:
            shutil.rmtree(store.folder)
        raise


def send_competitors(client: Client, options: Options, fleet: FleetOptions) -> list[dict[str, Any]]:
    """The user's own implementations as plain data, their files sent to the workers if the user has asked for it.

    Raises:
        UserError: there are some, and the user has not; or one of them is wrong.
    """
    targets = [name for name in options.implementation if is_target(name)]
    if targets and not fleet.send:
        raise UserError(f"--implementation {targets[0]}: your file runs on all machines only if you add --send")
    competitors = competitors_of(targets)
    for target in filter(is_own, targets):
        client.upload_file(target.rpartition(":")[0], load=False)
    return list(map(to_plain, competitors))


def _cases_of_a_worker(client: Client, options: Options, competitors: list[dict[str, Any]]) -> list[Case]:
    """The selected cases as the first worker has them: this machine need not have the libraries.

    Raises:
        UserError: there is no worker, it lacks the suite, or the selection is wrong.
    """
    workers = sorted(client.nthreads())
    if not workers:
        raise UserError("the cluster has no worker; start one on each machine: dask worker SCHEDULER --nthreads 1")
    selection = dataclasses.asdict(options.selection)
    answer = client.run(worker.cases_of, selection, competitors, workers=workers[:1], on_error="return")[workers[0]]
    if isinstance(answer, UserError):
        raise answer
    if isinstance(answer, BaseException):
        raise UserError(
            f"worker {workers[0]}: {type(answer).__name__}: {answer}; it needs this version of softmax-bench[fleet]"
        )
    return [from_plain(case, Case) for case in answer]


def _plan(shares: list[Share], fleet: FleetOptions, competitors: list[dict[str, Any]]) -> Plan:
    return Plan(
        shares=shares,
        everywhere=fleet.everywhere,
        replicas=fleet.replicas,
        keep_apart=fleet.keep_apart,
        patience_s=fleet.patience_s,
        competitors=competitors,
    )
