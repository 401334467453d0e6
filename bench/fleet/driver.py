"""The driver of a run on many machines: which machine may have which share; Dask does the rest.

Dask places each task on one of the workers that the driver allows for it, and runs it again on another of them if a
worker dies. The driver only says who is allowed: with ``everywhere`` the machine itself; when cases are shared out, for
each replica of a share another part of the machines, so that no machine has a share twice. Only a few tasks for each
machine are with Dask at a time, so the driver's memory does not grow with the run.
"""

import contextlib
import queue
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from distributed import Client, Future

from ..errors import UserError
from ..storage.machines import APART, KEPT, LEFT_OUT, Machine
from . import worker
from .machines import differences, left_out, reference_of
from .messages import BEGAN, RECORDS, WAITING, Order, Outcome, Records, from_plain, settings_only
from .shares import PATIENCE_S, Share, limit_s
from .store import FAILED, HUNG, LOST, Attempt, FleetStore

AHEAD = 2  # tasks of a machine that are with Dask: one under way, one to follow
TICK_S = 1.0
BATCH = 256  # messages stored in one go
GRACE_S = 10.0  # beyond the limit of a share, for its messages
NAMED = 10  # shares, in a line
TRIES = 3  # of a share whose process fails, on any machine


@dataclass(frozen=True)
class Plan:
    """What is to be done: the shares, and who measures them."""

    shares: Sequence[Share]
    everywhere: bool
    replicas: int
    keep_apart: bool = False
    patience_s: float = PATIENCE_S
    competitors: list[dict[str, Any]] = field(default_factory=list)
    task: Callable[[str], str] = worker.measure_share
    describe: Callable[[], dict[str, Any]] = worker.describe


@dataclass(frozen=True)
class Job:
    """A share to be measured: on a machine, or for the so-many-th time on any."""

    share: int
    machine: str = ""
    replica: int = 0


@dataclass
class Flight:
    """A job that is with Dask."""

    job: Job
    future: Future
    allowed: dict[str, str]  # addresses of workers, and their machines
    limit_s: float
    heard_s: float  # when its machine last said anything, by the monotonic clock
    machine: str = ""  # where it is under way
    worker: str = ""
    attempt: str = ""


class Follower:
    """Whoever follows the driver; this one does nothing."""

    def said(self, text: str) -> None:
        """Something happened that a user should know."""

    def moved_on(self, driver: "Driver") -> None:
        """Some time has passed."""


class Driver:
    """The run while it is driven.

    Raises:
        UserError: the cluster has no worker, a worker lacks the suite, or machines are unlike.
    """

    def __init__(self, client: Client, store: FleetStore, plan: Plan, follower: Follower) -> None:
        self._client, self.store, self.plan, self._follower = client, store, plan, follower
        self._topic = f"softmax-bench-{store.run.run_id}"
        self._inbox: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._workers: dict[str, str] = {}  # of machines that take part: address and machine
        self._known: set[str] = set()  # addresses that have been asked what they are
        self._excluded: set[str] = set()  # addresses of workers that fell silent
        self._avoided: set[tuple[int, str]] = set()  # shares, and the machines on which they failed or hung
        self._flights: dict[str, Flight] = {}
        self._failures: dict[Job, int] = defaultdict(int)
        self._given_up: list[Job] = []
        self._idle_since: float | None = None
        self._number = 0
        client.subscribe_topic(self._topic, lambda event: self._inbox.put(("event", event[1])))
        self._jobs: deque[Job] = deque()
        if not client.nthreads():
            raise UserError("the cluster has no worker; start one on each machine: dask worker SCHEDULER --nthreads 1")
        if not plan.everywhere:
            self._jobs.extend(self._shared_jobs())
        elif store.machines:
            self._jobs.extend(self._jobs_of(list(store.machines.values())))
        self._admit_new_workers()

    @property
    def machines(self) -> list[str]:
        """The machines that have a worker now."""
        return sorted({self._workers[address] for address in self._workers if address not in self._excluded})

    @property
    def left(self) -> int:
        """How many jobs are not done."""
        return len(self._jobs) + len(self._flights)

    def run(self) -> bool:
        """Have every share measured; False where some cannot be, and then it was said why.

        Raises:
            UserError: what arrives cannot be stored, or the scheduler is gone.
        """
        try:
            return self._run()
        except (OSError, TimeoutError) as error:
            raise UserError(f"the scheduler is gone ({_first_line(error)}); {self._hint()}") from None

    def _run(self) -> bool:
        looked_s = 0.0
        while self.left or self._replaced():
            self._fill()
            self._store_what_arrived()
            self._end_hung()
            self._follower.moved_on(self)
            if time.monotonic() - looked_s >= TICK_S:
                looked_s = time.monotonic()
                self._admit_new_workers()
                self._recall_stranded()
                if self._is_stuck():
                    return False
        return not self._given_up

    def close(self) -> None:
        """Take back what is with Dask, and tell the workers to forget a run that is over."""
        with contextlib.suppress(OSError, TimeoutError):  # the scheduler may be gone
            self._client.cancel([flight.future for flight in self._flights.values()], force=True)
            if not self.left:
                order = self._order(Share(0, (), 0.0))
                self._client.run(worker.forget, msgspec.json.encode(order).decode(), on_error="ignore")

    # Who is there

    def _admit_new_workers(self) -> None:
        """Ask new workers what they are, and forget those that are gone.

        Raises:
            UserError: the scheduler is gone, or see `Driver`.
        """
        there = set(self._client.nthreads())
        new = sorted(there - self._known)
        said = self._client.run(self.plan.describe, workers=new, on_error="return") if new else {}
        self._workers = {address: machine for address, machine in self._workers.items() if address in there}
        gone = {address for address, answer in said.items() if isinstance(answer, OSError)}  # since it was listed
        found = {address: machine_of(address, answer) for address, answer in said.items() if address not in gone}
        self._known = there - gone
        if found:
            self._admit(found)

    def _admit(self, found: dict[str, Machine]) -> None:
        """Let machines take part that are like the others; the rest is kept apart, or refused."""
        new = {machine.machine: machine for machine in found.values() if machine.machine not in self.store.machines}
        first = not self.store.machines
        known = self._machines_of(KEPT) or list(new.values())
        reference = reference_of(known)
        for machine in new.values():
            if unlike := differences(machine, reference):
                phrase = f"{machine.machine} is unlike {reference.machine}: {'; '.join(unlike)}"
                if first and not self.plan.keep_apart:
                    raise UserError(f"{phrase}; install the same on both, or give --keep-apart")
                kept = APART if self.plan.keep_apart else LEFT_OUT
                self.store.machines[machine.machine] = left_out(machine, kept, "; ".join(unlike))
                self._follower.said(f"{phrase}; it is {'kept apart' if kept == APART else 'left out'}")
            else:
                self.store.machines[machine.machine] = machine
        for address, machine in found.items():
            stored = self.store.machines[machine.machine]
            if changed := differences(machine, stored):
                self._follower.said(f"{machine.machine} is not what it was: {changed[0]}; worker {address} is left out")
            elif self._takes_part(stored):
                self._workers[address] = machine.machine
        if new:
            self.store.describe(ended=False)
            if self.plan.everywhere:
                self._jobs.extend(self._jobs_of([self.store.machines[name] for name in new]))

    def _takes_part(self, machine: Machine) -> bool:
        """A machine that is unlike the rest measures for itself only: no replica of others' shares."""
        return machine.kept == KEPT or (machine.kept == APART and self.plan.everywhere)

    # Which share goes where

    def _jobs_of(self, machines: Sequence[Machine]) -> Iterator[Job]:
        """The jobs that these machines have not done, of each share of the plan, by turns."""
        names = sorted(machine.machine for machine in machines if self._takes_part(machine))
        for share in self.plan.shares:
            for name in names:
                if (share.number, name) not in self.store.done:
                    yield Job(share.number, name)

    def _shared_jobs(self) -> Iterator[Job]:
        """The replicas that no machine which counts has done, of each share of the plan."""
        made: dict[int, int] = defaultdict(int)
        counted: dict[int, int] = defaultdict(int)
        for number, name in self.store.done:
            made[number] += 1
            counted[number] += self.store.machines[name].kept == KEPT
        for number in range(len(self.plan.shares)):
            for replica in range(made[number], made[number] + self.plan.replicas - counted[number]):
                yield Job(number, replica=replica)

    def _replaced(self) -> bool:
        """Whether shares are to be measured once more: when all are done, some of it on machines that are left out."""
        if self.plan.everywhere:
            return False
        self.store.describe(ended=False)
        self._workers = {
            address: name for address, name in self._workers.items() if self._takes_part(self.store.machines[name])
        }
        given_up = {job.share for job in self._given_up}
        self._jobs.extend(job for job in self._shared_jobs() if job.share not in given_up)
        if not self._jobs:
            return False
        out = [f"; {each.machine} is left out: {each.reason}" for each in self._machines_of(LEFT_OUT)]
        self._follower.said(f"to be measured on another machine: share {_listed(self._jobs)}{''.join(out)}")
        return True

    def _machines_of(self, kept: str) -> list[Machine]:
        """The machines of the run that are kept so."""
        return [machine for machine in self.store.machines.values() if machine.kept == kept]

    def _fill(self) -> None:
        """Give Dask as many jobs as are to be with it; a job that nobody may have now goes to the end."""
        by_machine = defaultdict(list)
        for address, machine in self._workers.items():
            if address not in self._excluded:
                by_machine[machine].append(address)
        room = AHEAD * len(by_machine) - len(self._flights)
        ahead = Counter(flight.job.machine for flight in self._flights.values())
        taken: dict[int, set[str]] = defaultdict(set)  # machines that may have a replica of a share already
        for flight in self._flights.values():
            taken[flight.job.share] |= set(flight.allowed.values())
        for _ in range(len(self._jobs) if room > 0 else 0):
            job = self._jobs.popleft()
            if job.machine:
                allowed = [job.machine] if job.machine in by_machine and ahead[job.machine] < AHEAD else []
            else:
                allowed = self._allowed(job, sorted(by_machine), taken[job.share])
            if not allowed:
                self._jobs.append(job)
                continue
            self._submit(job, {address: machine for machine in allowed for address in by_machine[machine]})
            ahead[job.machine] += 1
            taken[job.share] |= set(allowed)
            room -= 1
            if room == 0:
                return

    def _allowed(self, job: Job, machines: Sequence[str], taken: set[str]) -> list[str]:
        """The machines that may have a replica: those of its part, or if none of them is left, any other."""
        free = [name for name in machines if name not in taken and (job.share, name) not in self.store.done]
        turn = job.share % max(1, len(machines))  # else the same machines would share their part with fewer others
        part = [*machines[turn:], *machines[:turn]][job.replica :: self.plan.replicas]
        best = [name for name in free if (job.share, name) not in self._avoided]
        return [name for name in best if name in part] or best or free

    def _submit(self, job: Job, allowed: dict[str, str]) -> None:
        order = self._order(self.plan.shares[job.share])
        self._number += 1
        key = f"share-{job.share}-{self.store.run.run_id}-{self._number}-{time.time_ns()}"
        text = msgspec.json.encode(order).decode()  # one text: Dask looks into dictionaries for tasks
        future = self._client.submit(
            self.plan.task, text, key=key, workers=list(allowed), allow_other_workers=False, pure=False
        )
        self._flights[key] = Flight(job, future, allowed, order.limit_s + GRACE_S, time.monotonic())
        future.add_done_callback(lambda done: self._inbox.put(("ended", done.key)))

    def _order(self, share: Share) -> Order:
        return Order(
            run=settings_only(self.store.run),
            share=share,
            limit_s=limit_s(share, self.store.run.options, self.plan.patience_s),
            topic=self._topic,
            competitors=self.plan.competitors,
        )

    # What arrives

    def _store_what_arrived(self) -> None:
        """Take in what has arrived, or wait a moment for it."""
        arrived = []
        try:
            arrived.append(self._inbox.get(timeout=TICK_S / 4))
            while len(arrived) < BATCH:
                arrived.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        self.store.take(*(msgspec.json.decode(event["content"], type=Records) for event in _events(arrived, RECORDS)))
        for kind, content in arrived:
            if kind == "event":
                self._hear(content)
        self._land([key for kind, key in arrived if kind == "ended" and key in self._flights])

    def _hear(self, event: dict[str, Any]) -> None:
        """Note that a machine is alive, and which attempt is under way on it."""
        now_s = time.monotonic()
        for flight in self._flights.values():
            if event["worker"] in ([flight.worker] if flight.worker else flight.allowed):
                flight.heard_s = now_s
        if event["kind"] == WAITING:
            self._follower.said(msgspec.json.decode(event["content"], type=str))
        if event["kind"] != BEGAN:
            return
        began = msgspec.json.decode(event["content"], type=dict[str, str])
        machine, attempt = began["machine"], began["attempt"]
        for flight in self._flights.values():
            if flight.job.share == event["share"] and event["worker"] in flight.allowed:
                if flight.attempt and flight.attempt != attempt:
                    self._note(flight, LOST, f"its worker is gone; the share moved to {machine}")
                flight.machine, flight.worker, flight.attempt = machine, event["worker"], attempt

    def _land(self, keys: Sequence[str]) -> None:
        """Store the outcomes of flights that have ended; what failed is tried again, elsewhere if possible."""
        flights = {key: self._flights.pop(key) for key in keys}
        fine = {key: flight for key, flight in flights.items() if flight.future.status == "finished"}
        results = self._client.gather([flight.future for flight in fine.values()], errors="skip") if fine else []
        if len(results) < len(fine):  # a worker is gone, and its results with it
            results = []
            self._jobs.extendleft(flight.job for flight in fine.values())
        for flight, text in zip(fine.values(), results, strict=False):
            outcome = msgspec.json.decode(text, type=Outcome)
            if not self.store.finish(flight.job.share, flight.worker, outcome):
                self._jobs.appendleft(flight.job)  # the machine's journal has what was lost on the way
        for key, flight in flights.items():
            if key not in fine:
                self._failed(flight)

    def _failed(self, flight: Flight) -> None:
        if flight.future.status == "cancelled" and self._client.status != "running":
            raise UserError(f"the scheduler is gone; {self._hint()}")
        error = flight.future.exception() if flight.future.status == "error" else None
        reason = _first_line(error) if error else "Dask has cancelled it"
        hung = "did not end within" in reason
        self._note(flight, HUNG if hung else FAILED, reason)
        self._again(flight)

    def _again(self, flight: Flight) -> None:
        """Have a job done again, unless it has failed too often; on another machine, if it may move."""
        job = flight.job
        self._failures[job] += 1
        self._avoided.add((job.share, flight.machine))
        if self._failures[job] < TRIES:
            self._jobs.append(job)
        else:
            self._follower.said(f"share {job.share}: failed {TRIES} times, it is given up")
            self._given_up.append(job)

    def _end_hung(self) -> None:
        """Take a job back whose machine has been silent for longer than its share may take."""
        now_s = time.monotonic()
        for key, flight in list(self._flights.items()):
            if now_s - flight.heard_s > flight.limit_s:
                del self._flights[key]
                flight.future.cancel(force=True)
                silent = set(flight.allowed) if not flight.worker else {flight.worker}
                self._excluded |= silent
                self._note(flight, HUNG, f"silent for {flight.limit_s:.0f} s")
                self._again(flight)

    def _recall_stranded(self) -> None:
        """Take back jobs of which no worker that may have them is left."""
        for key, flight in list(self._flights.items()):
            if not any(address in self._workers for address in flight.allowed):
                del self._flights[key]
                flight.future.cancel(force=True)
                self._note(flight, LOST, "its worker is gone")
                self._jobs.appendleft(flight.job)

    def _is_stuck(self) -> bool:
        """Whether nothing has been under way for so long that nothing will be."""
        if self._flights or not self._jobs:
            self._idle_since = None
            return False
        now_s = time.monotonic()
        self._idle_since = self._idle_since or now_s
        if now_s - self._idle_since < self.plan.patience_s:
            return False
        wanted = sorted({job.machine for job in self._jobs if job.machine})
        who = f"worker of {', '.join(wanted)}" if wanted else "machine that counts and has not measured it yet"
        self._follower.said(f"missing: share {_listed(self._jobs)}, for which no {who} is there; {self._hint()}")
        return True

    def _note(self, flight: Flight, ended: str, reason: str) -> None:
        job = flight.job
        machine = flight.machine or job.machine or ", ".join(sorted(set(flight.allowed.values())))
        self.store.note(Attempt(job.share, machine, flight.worker, flight.attempt, ended, reason))
        self._follower.said(f"share {job.share} on {machine}: {ended}, {reason}")

    def _hint(self) -> str:
        return f"softmax-bench fleet run --resume={self.store.run.run_id} goes on with it"


def _listed(jobs: Iterable[Job]) -> str:
    """The shares of some jobs, the first of them by number."""
    numbers = sorted({job.share for job in jobs})
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    return ", ".join(map(str, numbers[:NAMED])) + more


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _events(arrived: Sequence[tuple[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [content for source, content in arrived if source == "event" and content["kind"] == kind]


def machine_of(address: str, answer: Any) -> Machine:
    """The machine that a worker has described.

    Raises:
        UserError: it could not.
    """
    if isinstance(answer, ImportError):
        raise UserError(f"worker {address}: {answer}; it needs this version of softmax-bench[fleet]")
    if isinstance(answer, BaseException):
        raise UserError(f"worker {address}: {type(answer).__name__}: {answer}")
    return from_plain(answer, Machine)
