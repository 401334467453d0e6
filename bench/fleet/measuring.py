"""The process in which one share is measured: started by a worker, one order on its input, messages on its output.

A process of its own, because Dask's workers are daemons, which may start none, and because it can be ended when it
hangs. It ends when its worker does.

What it measures is kept in a journal as well, a stored run in the host's temporary folder: when a share is begun again
on a machine, whoever asks for it, the records of the journal are sent again and nothing is measured twice.
"""

import contextlib
import dataclasses
import hashlib
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..errors import UserError
from ..instruments import bandwidth, host
from ..instruments.machine_lock import hold
from ..operations.cases import Case
from ..storage.files import make_folder, replace_file
from ..storage.results import (
    CASES,
    Row,
    Run,
    SittingTimes,
    Visit,
    load_rows,
    load_run,
    load_visits,
    open_rows,
    open_visits,
)
from ..sweep.measuring import Measurer
from ..sweep.open_run import Observer, OpenRun, settings_of
from ..sweep.rounds import Rounds
from ..verification.competitor import Competitor, enlist_competitor
from .calibration import Look, look
from .machines import processors
from .messages import BEGAN, FAILED, OUTCOME, RECORDS, WAITING, Order, Outbox, Outcome, from_plain, to_plain
from .shares import Share, box_s

SEND_EVERY_S = 0.5
Send = Callable[[str, Any], None]  # kind and content of a message


def main() -> None:
    """Measure the share that is ordered on the standard input."""
    # What libraries print goes to the errors: the output is for messages.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as output:
        os.dup2(2, 1)
        order = from_plain(msgspec.json.decode(sys.stdin.buffer.readline()), Order)
        threading.Thread(target=_end_with_the_worker, daemon=True).start()

        def send(kind: str, content: Any) -> None:
            output.write(msgspec.json.encode({"kind": kind, "content": to_plain(content)}).decode() + "\n")
            output.flush()

        try:
            measure(order, send)
        except UserError as error:
            send(FAILED, str(error))
        except Exception as error:
            send(FAILED, f"{type(error).__name__}: {error}")
            raise


def _end_with_the_worker() -> None:
    """End this process when the worker's end of the pipe is gone; the sittings end when this process does."""
    while sys.stdin.buffer.read(1):
        pass
    os._exit(1)


def measure(order: Order, send: Send) -> None:
    """Measure the ordered share on this machine, as soon as nobody else measures here, and send all that is found."""
    machine = host.machine_id()
    holder = f"share {order.share.number} of {order.run.run_id}, process {os.getpid()}"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, processors())

    def waiting(other: str) -> bool:
        send(WAITING, f"{machine} is held by {other}")
        return True

    with hold(machine, holder, waiting):
        journal = Journal(machine, order.run, order.share)
        send(BEGAN, {"machine": machine, "attempt": journal.attempt})
        outcome = journal.outcome()
        if outcome is None:
            outcome = _measure_into(journal, order, send)
        else:
            _send_again(journal, outcome, send)
        send(OUTCOME, outcome)


class Journal:
    """The folder in which a machine keeps what it measured of a share, until the run is over."""

    def __init__(self, machine: str, run: Run, share: Share) -> None:
        self.machine, self.run = machine, run
        self.folder = journals_folder(machine, run) / f"share-{share.number}"
        make_folder(self.folder)
        name = self.folder / "attempt"
        if not name.exists():
            replace_file(name, f"{share.number}-{secrets.token_hex(4)}")
        self.attempt = name.read_text(encoding="ascii")

    def outcome(self) -> Outcome | None:
        """What came of the share; None where it is not measured to its end."""
        with contextlib.suppress(OSError):
            return msgspec.json.decode((self.folder / "outcome.json").read_bytes(), type=Outcome)
        return None

    def ended(self, outcome: Outcome) -> Outcome:
        """Keep what came of the share, and return it."""
        replace_file(self.folder / "outcome.json", msgspec.json.encode(to_plain(outcome)))
        return outcome

    def stored(self) -> tuple[list[Row], list[Visit]]:
        """What was measured so far."""
        if not (self.folder / CASES).exists():
            return [], []
        for table in (open_rows(self.folder), open_visits(self.folder)):
            table.close()  # opening cut off a torn row
        return [self.row(row) for row in load_rows(self.folder)], [
            self.visit(each) for each in load_visits(self.folder)
        ]

    def row(self, row: Row) -> Row:
        """A row as one of this attempt."""
        return dataclasses.replace(row, machine=self.machine, attempt=self.attempt)

    def visit(self, visit: Visit) -> Visit:
        """A visit as one of this attempt."""
        return dataclasses.replace(visit, machine=self.machine, attempt=self.attempt)


def journals_folder(machine: str, run: Run) -> Path:
    """Where a machine keeps the journals of a run; another run of the same name has another folder."""
    key = hashlib.sha256(f"{run.run_id} {run.started} {run.seed}".encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"softmax-bench-{machine}-{os.getuid()}" / f"{run.run_id}-{key}"


class Sender(Observer):
    """Sends what an open run measures, a few times a second, and before it what its journal has already."""

    def __init__(self, journal: Journal, send: Send) -> None:
        self._journal, self._send = journal, send
        self.outbox = Outbox(journal.attempt)
        self._sent_s = time.monotonic()

    def begin(self) -> None:
        """Send what the journal has."""
        rows, visits = self._journal.stored()
        self.outbox.rows += rows
        self.outbox.visits += visits
        self.flush()

    def examined(self, row: Row) -> None:
        """Note the row."""
        self.outbox.rows.append(self._journal.row(row))

    def visited(self, visit: Visit) -> None:
        """Note the visit."""
        self.outbox.visits.append(self._journal.visit(visit))

    def examining(self, case: Case) -> None:
        """Send, if it is time."""
        del case
        self._send_in_time()

    def visiting(self, rounds: Rounds) -> None:
        """Send, if it is time."""
        del rounds
        self._send_in_time()

    def looked(self, looks: Sequence[Look]) -> None:
        """Send a look at the calibration's cases."""
        self.outbox.looks += looks
        self.flush()

    def flush(self) -> None:
        """Send what has gathered."""
        self._send(RECORDS, self.outbox.emptied())
        self._sent_s = time.monotonic()

    def _send_in_time(self) -> None:
        if time.monotonic() - self._sent_s >= SEND_EVERY_S:
            self.flush()


def _measure_into(journal: Journal, order: Order, send: Send) -> Outcome:
    """Measure what the journal misses, between two looks at the calibration's cases."""
    began_s = round(time.time(), 3)
    for competitor in order.competitors:
        enlist_competitor(from_plain(competitor, Competitor))
    stream_bytes_per_s = round(bandwidth.fresh_stream_bytes_per_s())
    options = dataclasses.replace(order.run.options, stream_bytes_per_s=stream_bytes_per_s)
    run = dataclasses.replace(order.run, options=options, machine=host.machine(), versions=host.versions())
    sender = Sender(journal, send)
    measurer = Measurer(settings_of(run))
    able, unable = _divided(order.share.cases, run.run_id)
    sender.begin()
    sender.looked(look(measurer, journal.machine, journal.attempt))
    box = box_s(order.share, options)
    while (ended_s := _measure_within(box, able, run, journal, order, sender)) is not None:
        box = ended_s + box_s(order.share, options)  # some cases were not examined: the machine is slow today
    sender.looked(look(measurer, journal.machine, journal.attempt))
    for row in unable:
        sender.examined(row)
    sender.flush()
    return journal.ended(_outcome(journal, sender, unable, began_s))


def _measure_within(
    box: float, cases: Sequence[Case], run: Run, journal: Journal, order: Order, sender: Sender
) -> float | None:
    """Measure until ``box`` seconds are over; the seconds at the end if a case has no row then, otherwise None."""
    timed = dataclasses.replace(run, options=dataclasses.replace(run.options, minutes=box / 60.0))
    competitors = [from_plain(given, Competitor) for given in order.competitors]
    opened = OpenRun(timed, journal.folder, competitors)
    try:
        opened.measure(cases, sender)
        return None if all(case in opened.rows for case in cases) else opened.now_s()
    finally:
        opened.close()


def _outcome(journal: Journal, sender: Sender, unable: Sequence[Row], began_s: float) -> Outcome:
    stored = load_run(journal.folder)
    times: Sequence[SittingTimes] = stored.sittings
    return Outcome(
        machine=journal.machine,
        attempt=journal.attempt,
        rows=[journal.row(row) for row in [*load_rows(journal.folder), *unable]],
        ceiling=[dataclasses.replace(point, machine=journal.machine) for point in stored.ceiling],
        sent_rows=sender.outbox.sent_rows,
        sent_visits=sender.outbox.sent_visits,
        began_s=began_s,
        ended_s=round(time.time(), 3),
        measuring_s=round(sum(its.measuring_s for its in times), 3),
    )


def _send_again(journal: Journal, outcome: Outcome, send: Send) -> None:
    """Send the records of a share that was measured to its end before; its looks have been sent or are lost."""
    outbox = Outbox(journal.attempt, rows=list(outcome.rows))
    outbox.visits += map(journal.visit, load_visits(journal.folder))
    send(RECORDS, outbox.emptied())


def _divided(cases: Sequence[Case], run_id: str) -> tuple[list[Case], list[Row]]:
    """The cases that this machine can measure, and the rows of those that it cannot, with the reason."""
    able, unable = [], []
    for case in cases:
        reason = ""
        if case.threads > host.cores():
            reason = f"this machine has {host.cores()} processors"
        elif not case.spec.installed:
            reason = f"{case.spec.library} is not installed on this machine"
        if reason:
            unable.append(Row(run_id, **dataclasses.asdict(case), status="skipped", reason=reason))
        else:
            able.append(case)
    return able, unable


if __name__ == "__main__":
    main()
