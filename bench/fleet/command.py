"""The commands fleet, merge and part."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..cli import INTERRUPTED, plots_option, results_option
from ..errors import NothingToDrawError, UserError
from ..paths import charts_folder
from ..report.machines import load_across
from ..report.machines_output import draw_across, print_across
from ..storage.results import find_run
from ..sweep.options import Options, add_click_options
from ..terminal import new_console, print_sentence
from .merging import load_part_of, merge_parts, part_of, store_merged
from .scale import NAME, load_scale, load_study

if TYPE_CHECKING:
    from distributed import Client

NAMED = 10  # duplicates and conflicts
FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def fleet() -> None:
    """Measure one sweep on many machines, on Dask."""


@fleet.command("run")
@add_click_options
@plots_option
@click.option("--everywhere/--share", default=True, help="every machine measures every case, or cases are shared out")
@click.option("--replicas", default=2, show_default=True, metavar="N", help="machines that each share is measured on")
@click.option("--wait-for", default=0, metavar="N", help="begin when N machines are there [default: with who is there]")
@click.option("--share-minutes", default=0.5, show_default=True, help="visits of a share take about so long")
@click.option("--keep-apart", is_flag=True, help="machines with other versions or code take part, kept apart")
@click.option("--send", is_flag=True, help="send your own file of --implementation=path.py:name to the machines")
@click.option("--patience-s", default=60.0, show_default=True, help="what starting may take, before a worker hangs")
@click.option("--scheduler", metavar="ADDRESS", help="of an existing Dask cluster, as in tcp://host:8786")
@click.option("--workers", default=1, show_default=True, help="without --scheduler: workers on this machine")
@click.option("--pretend", is_flag=True, help="each of these workers counts as a machine of its own, to try it out")
@click.option("--tls-ca", type=FILE, help="certificate of the authority, for a scheduler at tls://")
@click.option("--tls-cert", type=FILE, help="certificate of this client")
@click.option("--tls-key", type=FILE, help="its key")
@click.option("--slurm", is_flag=True, help="the workers are jobs of SLURM, as many as --workers")
@click.option("--queue", help="SLURM's partition")
@click.option("--account", help="SLURM's account")
@click.option("--walltime", default="02:00:00", show_default=True, help="of a job of SLURM")
@click.option("--memory", default="8GB", show_default=True, help="of a job of SLURM")
@click.option("--cores", default=1, show_default=True, help="of a job of SLURM")
@click.option("--directive", multiple=True, help="further line of SLURM's job script, as in --constraint=rome")
@click.option("--dry-run", is_flag=True, help="with --slurm: show the job script, and start nothing")
@click.option("--charts/--no-charts", default=True, help="draw the charts across machines at the end")
def fleet_run(plots: Path | None, *, charts: bool, dry_run: bool, **given: Any) -> None:
    """Measure every selected case on the machines of a Dask cluster, into one table.

    Exit status: 0 all measured or skipped, 1 a case wrong or failed or a share missing, 2 the run could not start,
    130 interrupted.
    """
    _require_dask()
    from .opening import FleetOptions  # noqa: PLC0415 - Dask is an extra

    options = Options(**{name: given.pop(name) for name in vars(Options())})
    asked = FleetOptions(**{name: given.pop(name) for name in vars(FleetOptions())})
    if asked.replicas < 1:
        raise UserError(f"--replicas {asked.replicas}: must be at least 1")
    _check_awaited(asked.wait_for, given)
    if dry_run:
        print(_job_script(**given), end="")
        return
    try:
        with _cluster(**given, limit_s=asked.patience_s) as client:
            status, folder = _conduct(client, options, asked)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    _sum_up(folder, plots, charts=charts)
    sys.exit(status)


def _check_awaited(machines: int, given: dict[str, Any]) -> None:
    """Make sure that so many machines can come.

    Raises:
        UserError: there will never be so many, or it is no number of machines.
    """
    if machines < 0:
        raise UserError(f"--wait-for {machines}: must be at least 0")
    most = given["workers"] if given["slurm"] or given["pretend"] else 1
    if machines > most and (given["slurm"] or not given["scheduler"]):
        raise UserError(f"--wait-for {machines}: there will be no more than {most}; see --workers and --scheduler")


def _require_dask() -> None:
    try:
        import distributed  # noqa: F401, PLC0415
    except ImportError:
        raise UserError("fleet: Dask is not installed; make's EXTRAS=fleet, or pip's softmax-bench[fleet]") from None


def _conduct(client: "Client", options: Options, asked: Any) -> tuple[int, Path]:
    """Drive the run to its end; the exit status and the run's folder."""
    from . import opening  # noqa: PLC0415 - Dask is an extra
    from .progress import FleetDisplay  # noqa: PLC0415

    console = new_console()
    if asked.wait_for:
        opening.await_machines(client, asked.wait_for, lambda text: print_sentence(text, console))
    if options.resume:
        store, plan = opening.resume(client, options.resume, options, asked)
    else:
        store, plan = opening.begin(client, options, asked)
    with FleetDisplay(console) as display, contextlib.closing(store):
        driver = opening.driver_of(client, store, plan, display, new=not options.resume)
        mode = "every machine measures all of them" if plan.everywhere else f"each on {plan.replicas} machines"
        display.said(
            f"run {store.run.run_id}: {len(plan.shares)} shares, {mode}; machines: {', '.join(driver.machines)}"
        )
        if plan.competitors:
            display.said(f"sent to all machines: {', '.join(each['target'] for each in plan.competitors)}")
        display.said(f"Dask's dashboard: {client.dashboard_link} (its pages need bokeh beside the scheduler)")
        complete = False
        try:
            complete = driver.run()
        finally:
            store.describe(ended=complete)
            driver.close()
    right = not store.statuses["wrong"] and not store.statuses["failed"]
    return (0 if complete and right else 1), store.folder


@contextlib.contextmanager
def _cluster(scheduler: str | None, workers: int, *, pretend: bool, slurm: bool, **given: Any) -> "Iterator[Client]":
    from . import cluster  # noqa: PLC0415 - Dask is an extra

    security = cluster.security_of(given["tls_ca"], given["tls_cert"], given["tls_key"])
    if workers < 1:
        raise UserError(f"--workers {workers}: must be at least 1")
    if slurm:
        opened = cluster.slurm_cluster(_slurm(workers, given), security)
    elif scheduler:
        opened = cluster.connected(scheduler, security, given["limit_s"])
    else:
        opened = cluster.local_cluster(workers, apart=pretend)
    with opened as client:
        yield client


def _job_script(*, workers: int, slurm: bool, **given: Any) -> str:
    from . import cluster  # noqa: PLC0415 - Dask is an extra

    if not slurm:
        raise UserError("--dry-run shows the job script of --slurm")
    security = cluster.security_of(given["tls_ca"], given["tls_cert"], given["tls_key"])
    return cluster.job_script(_slurm(workers, given), security)


def _slurm(workers: int, given: dict[str, Any]) -> Any:
    from .cluster import Slurm  # noqa: PLC0415 - Dask is an extra

    names = ("queue", "account", "walltime", "memory", "cores")
    return Slurm(workers, **{name: given[name] for name in names}, directives=given["directive"])


def _sum_up(folder: Path, plots: Path | None, *, charts: bool) -> None:
    """Print what a table of several machines says, and draw it."""
    across = load_across(folder)
    print_across(across, new_console())
    if charts:
        from ..charts.style import charts_sentence  # noqa: PLC0415 - matplotlib is slow to import

        try:
            print_sentence(charts_sentence(draw_across(across, charts_folder(folder, plots))))
        except NothingToDrawError as error:
            print_sentence(f"no charts: {error}")


@click.command()
@click.argument("names", metavar="RUN RUN [RUN ...]", nargs=-1)
@results_option
@plots_option
@click.option("--run-id", default="merged", show_default=True, help="name of the table that is made")
@click.option("--apart", is_flag=True, help="each run of one machine counts as a machine of its own, named for the run")
@click.option("--keep-apart", is_flag=True, help="machines with other versions or code are taken in, kept apart")
@click.option("--charts/--no-charts", default=True, help="draw the charts across machines")
def merge(
    names: tuple[str, ...],
    results: Path,
    plots: Path | None,
    run_id: str,
    *,
    apart: bool,
    keep_apart: bool,
    charts: bool,
) -> None:
    """Make one table of runs that were made apart, and report what is there twice and what is missing where.

    Exit status: 0, 1 if two runs have different figures of one case on one machine (the first run's stay), 2 if a run
    cannot be read or they do not fit together.
    """
    if len(names) < 2:
        raise UserError("merge: give two runs or more")
    parts = [load_part_of(find_run(name, results), apart=apart) for name in names]
    merged = merge_parts(parts, run_id, keep_apart=keep_apart)
    folder = store_merged(merged, results)
    for kind, found in (("duplicate", merged.duplicates), ("conflict", merged.conflicts)):
        for text in found[:NAMED]:
            print_sentence(f"{kind}: {text}")
        if len(found) > NAMED:
            print_sentence(f"{len(found)} {kind}s in all")
    _sum_up(folder, plots, charts=charts)
    sys.exit(1 if merged.conflicts else 0)


@click.command()
@click.argument("name", metavar="RUN")
@click.argument("machine")
@results_option
@click.option("--run-id", help="name of the run that is made [default: the machine's id]")
def part(name: str, machine: str, results: Path, run_id: str | None) -> None:
    """Take what one machine measured out of a table of several, as a run that plot, diff and the rest understand."""
    of = load_part_of(find_run(name, results), apart=False)
    print_sentence(f"stored in {store_merged(part_of(of, machine, run_id or machine), results)}")


@fleet.command("scale")
@click.option("--workers", default=500, show_default=True, help="simulated workers of the largest run")
@click.option("--cases", default=1_000_000, show_default=True, help="cases of the largest run")
@results_option
@plots_option
@click.option("--draw-only", is_flag=True, help="draw the stored simulations, make none")
def fleet_scale(workers: int, cases: int, results: Path, plots: Path | None, *, draw_only: bool) -> None:
    """Simulate runs on hundreds of workers whose measuring only sleeps; store and draw memory and rate."""
    from ..charts.style import charts_sentence, made_with, write_charts  # noqa: PLC0415 - matplotlib is slow to import
    from .chart import draw_scale  # noqa: PLC0415

    folder = results / NAME
    if workers < 1 or cases < 1:
        raise UserError("--workers and --cases: must be at least 1")
    if not draw_only:
        _simulate(workers, cases, folder)
    study = load_study(folder)
    figure = draw_scale(*load_scale(folder), made_with(study.machine, study.versions))
    print_sentence(charts_sentence(write_charts(figure, charts_folder(folder, plots), "scale")))


def _simulate(workers: int, cases: int, folder: Path) -> None:
    """Simulate, store, and say how each run went."""
    _require_dask()
    from .simulation import measure_scale  # noqa: PLC0415 - Dask is an extra

    for each in measure_scale(workers, cases, folder):
        print_sentence(
            f"{each.workers} workers, {each.cases} cases: {each.cases_per_s:g} cases a second, "
            f"{each.not_measuring:.0%} of the workers' time not measuring"
        )
