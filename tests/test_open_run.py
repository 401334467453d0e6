"""How the cases of a run become rows, with processes that answer from a script and a clock that they advance."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from softmax_bench import implementations
from softmax_bench.errors import BusyError
from softmax_bench.implementations import registered
from softmax_bench.instruments.bandwidth import Stream
from softmax_bench.instruments.clock import Timing, VisitSettings
from softmax_bench.operations.cases import Case
from softmax_bench.storage.results import Row, RunOptions, SittingTimes, Visit, load_rows, load_run, load_visits
from softmax_bench.sweep import open_run
from softmax_bench.sweep.budget import examination_s
from softmax_bench.sweep.open_run import Observer, OpenRun, settings_of
from softmax_bench.sweep.rounds import Rounds, Subject
from softmax_bench.sweep.sitting import MeasuringError, SittingHungError, SittingLostError

from tests.test_results import RUN

OPTIONS = RunOptions(
    max_call_s=2.0,
    max_bytes=10**9,
    benchmark={"max_time": 0.3, "min_time": 0.001},
    stream_bytes_per_s=1e8,
    minutes=1.0,
)
CALL_S = 1e-4  # of every call, unless a script says something else
PACE_S = 2.5e-5  # of the loop beside it


def case_of(name: str, features: int = 512, threads: int = 1) -> Case:
    return Case("softmax", name, 32, features, "float64", "normal", threads)


def right(probs: object, grad_output: object) -> object:
    """A user's own, which is never called here."""
    raise NotImplementedError


class Script:
    """What the processes answer: a row or a time of ``CALL_S``, unless an answer for method and case is set."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.answers: dict[tuple[str, str], Callable[[], Any]] = {}
        self.asked: list[tuple[int, str, str, float]] = []  # process, method, subject, limit
        self.sittings: list[str] = []
        self.closed: list[int] = []
        self.visit_s = 0.05

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def methods(self, subject: object) -> list[str]:
        return [method for _, method, asked, _ in self.asked if asked == str(subject)]

    def sitting(self, name: str, *_: object) -> "ScriptedSitting":
        self.sittings.append(name)
        return ScriptedSitting(self, len(self.sittings) - 1)


class ScriptedSitting:
    """In place of a process."""

    def __init__(self, script: Script, number: int) -> None:
        self._script, self._number = script, number

    def ask(self, method: str, subject: Subject | None = None, *_: object, limit_s: float) -> Any:
        script = self._script
        script.asked.append((self._number, method, str(subject), limit_s))
        script.now_s += 0.01 if method == "ready" else script.visit_s
        if answer := script.answers.get((method, getattr(subject, "implementation", "stream"))):
            return answer()
        if method == "examine":
            assert isinstance(subject, Case)
            return measured(subject)
        return Timing(9, CALL_S, 1.1 * CALL_S, PACE_S) if method == "visit" else None

    def close(self) -> None:
        self._script.closed.append(self._number)


def measured(case: Case, first_call_s: float = 2 * CALL_S, **values: Any) -> Row:
    facts = {"status": "measured", "peak_bytes": 10**6, "first_call_s": first_call_s, **values}
    return Row("r1", **dataclasses.asdict(case), **facts)


def raising(error: Exception) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """The processes and the clock of the test."""
    script = Script()
    clock = SimpleNamespace(perf_counter=lambda: script.now_s, time=lambda: 1.7e9 + script.now_s)
    monkeypatch.setattr(open_run, "time", clock)
    monkeypatch.setattr(open_run, "Sitting", script.sitting)
    monkeypatch.setattr(open_run, "Rounds", partial(Rounds, sleep=script.sleep))
    return script


def opened(folder: Path, **options: Any) -> OpenRun:
    return OpenRun(dataclasses.replace(RUN, options=dataclasses.replace(OPTIONS, **options)), folder)


def swept(folder: Path, cases: Sequence[Case], observer: Observer | None = None, **options: Any) -> dict[str, Row]:
    """The rows of a whole run, by implementation and, for another shape than 32 × 512, its features."""
    run = opened(folder, **options)
    run.measure(cases, observer or Observer())
    run.close()
    return {
        row.implementation if row.features == 512 else f"{row.implementation}-{row.features}": row
        for row in load_rows(folder)
    }


VECTORIZED, ROW_BLOCKS = case_of("vectorized"), case_of("row_blocks")


def test_each_case_is_examined_once_and_visited_until_it_settles(script: Script, tmp_path: Path) -> None:
    rows = swept(tmp_path, [VECTORIZED, ROW_BLOCKS])
    for case in (VECTORIZED, ROW_BLOCKS):
        methods = script.methods(case)
        assert methods[:2] == ["examine", "visit"]  # the first visit just after
        row = rows[case.implementation]
        assert (row.status, row.settled, row.visits) == ("measured", 1, methods.count("visit"))
        assert row.time_s == CALL_S
    visits = load_visits(tmp_path)
    of_first = [visit for visit in visits if visit.case == str(VECTORIZED)]
    assert [visit.round for visit in of_first][:3] == [0, 1, 2]
    assert [visit.when_s for visit in visits] == sorted(visit.when_s for visit in visits)
    assert of_first[0] == Visit(
        str(VECTORIZED), 0, 0.06, 9, CALL_S, 1.1 * CALL_S, began_s=1.7e9 + 100.06, took_s=0.05, pace_s=PACE_S
    )
    assert load_run(tmp_path).ended
    assert script.now_s < 100.0 + 30.0  # it does not wait for the end of the minute


def test_the_ceiling_is_visited_as_cases_are(script: Script, tmp_path: Path) -> None:
    swept(tmp_path, [VECTORIZED, ROW_BLOCKS, case_of("vectorized", 1024)])
    (small, large) = load_run(tmp_path).ceiling
    assert (small.threads, small.working_set_bytes) == (1, 3 * 32 * 512 * 8)
    assert (large.threads, large.working_set_bytes) == (1, 3 * 32 * 1024 * 8)
    assert small.bytes_per_s == round(small.working_set_bytes / CALL_S)
    streams = {visit.case for visit in load_visits(tmp_path) if Stream.named(visit.case)}
    assert len(streams) == 2


def test_streams_past_the_caches_need_a_compiler_s_process(script: Script, tmp_path: Path) -> None:
    large = case_of("vectorized", 8192)
    swept(tmp_path / "plain", [large])
    assert not any("past_caches" in subject for _, _, subject, _ in script.asked)
    swept(tmp_path / "compiled", [large, dataclasses.replace(large, implementation="fused_out")])
    assert "numba:1" in script.sittings
    past = [(script.sittings[process], subject) for process, _, subject, _ in script.asked if "past_caches" in subject]
    assert {sitting for sitting, _ in past} == {"numba:1"}


def test_four_processes_of_numpy_take_turns_and_a_library_has_one(script: Script, tmp_path: Path) -> None:
    swept(tmp_path, [VECTORIZED, case_of("fused_out")])
    assert sorted(script.sittings) == ["numba:1", *["numpy"] * 4]
    numbers = {name: sorted({process for process, method, subject, _ in script.asked if subject == str(case_of(name))})
               for name in ("vectorized", "fused_out")}  # fmt: skip
    assert len(numbers["vectorized"]) == 4
    assert len(numbers["fused_out"]) == 1
    of_rounds = [
        process for process, method, subject, _ in script.asked if (method, subject) == ("visit", str(VECTORIZED))
    ]
    assert of_rounds[:5] == [of_rounds[4], *of_rounds[1:4], of_rounds[0]]  # rounds 0 to 4
    assert len(set(of_rounds[:4])) == 4
    assert [method for _, method, *_ in script.asked].count("ready") == 5
    assert sorted(script.closed) == [0, 1, 2, 3, 4]


def test_a_process_that_is_lost_while_it_examines_is_a_failed_row(script: Script, tmp_path: Path) -> None:
    script.answers["examine", "vectorized"] = raising(SittingLostError("the process was ended by SIGSEGV"))
    rows = swept(tmp_path, [VECTORIZED, ROW_BLOCKS])
    assert (rows["vectorized"].status, rows["vectorized"].reason) == ("failed", "the process was ended by SIGSEGV")
    assert script.methods(VECTORIZED) == ["examine"]
    assert rows["row_blocks"].status == "measured"
    assert rows["row_blocks"].settled == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SittingLostError("the process ended with 3"), "failed"),
        (MeasuringError("ValueError: no"), "failed"),
        (MeasuringError("right at first, then got nan", "wrong"), "wrong"),
    ],
)
@pytest.mark.parametrize("good", [0, 2])
def test_a_case_that_fails_while_it_is_visited_is_visited_no_more(
    script: Script, tmp_path: Path, error: Exception, status: str, good: int
) -> None:
    answers = iter([*[lambda: Timing(9, CALL_S, CALL_S)] * good, raising(error)])

    def answer() -> Any:
        return next(answers)()

    script.answers["visit", "vectorized"] = answer
    rows = swept(tmp_path, [VECTORIZED, ROW_BLOCKS])
    assert (rows["vectorized"].status, rows["vectorized"].reason) == (status, f"in round {good}: {error}")
    assert rows["vectorized"].visits is None
    assert rows["row_blocks"].settled == 1
    assert script.methods(VECTORIZED).count("visit") == good + 1


def test_a_stream_that_fails_takes_no_case_with_it(script: Script, tmp_path: Path) -> None:
    script.answers["visit", "stream"] = raising(MeasuringError("MemoryError"))
    rows = swept(tmp_path, [VECTORIZED])
    assert rows["vectorized"].settled == 1
    assert load_run(tmp_path).ceiling == []


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Case:
    """A case of a user's own implementation, which a module has registered."""
    registered()
    spec = dataclasses.replace(registered()["softmax", "vectorized"], name="own", function=right)
    monkeypatch.setitem(implementations._registry, ("softmax", "own"), spec)
    assert spec.of_plugin
    return case_of("own")


def test_a_user_s_own_is_judged_once_more_after_its_last_visit(script: Script, tmp_path: Path, own: Case) -> None:
    rows = swept(tmp_path / "right", [own, VECTORIZED])
    assert rows["own"].status == "measured"
    assert script.methods(own)[-1] == "recheck"
    assert "recheck" not in script.methods(VECTORIZED)
    script.answers["recheck", "own"] = raising(MeasuringError("right at first, then got nan", "wrong"))
    rows = swept(tmp_path / "wrong", [own])
    assert rows["own"].reason == "after its last visit: right at first, then got nan"
    assert rows["own"].status == "wrong"
    script.answers["recheck", "own"] = raising(SittingLostError("the process ended with 1"))
    assert swept(tmp_path / "lost", [own])["own"].status == "failed"


def test_a_user_s_own_that_hung_is_not_tried_again_and_ours_is(script: Script, tmp_path: Path, own: Case) -> None:
    other = dataclasses.replace(own, features=1024)
    for name in ("own", "vectorized"):
        script.answers["examine", name] = raising(SittingHungError("the process did not answer within 15 s"))
    rows = swept(tmp_path, [VECTORIZED, own, other, ROW_BLOCKS])
    assert rows["own"].reason == "the process did not answer within 15 s"
    assert rows["own-1024"].reason == f"not tried: it hung at {own}"
    assert script.methods(other) == []
    assert rows["vectorized"].status == "failed"
    assert rows["row_blocks"].status == "measured"


def test_a_process_has_as_long_as_was_predicted_fifty_times_over(script: Script, tmp_path: Path, own: Case) -> None:
    swept(tmp_path, [VECTORIZED, own])
    limits = {(method, subject): limit_s for _, method, subject, limit_s in script.asked}
    expected_s = 50.0 * examination_s(VECTORIZED, OPTIONS)
    assert expected_s > 5.0
    assert limits["examine", str(VECTORIZED)] == limits["visit", str(VECTORIZED)] == pytest.approx(60.0 + expected_s)
    assert limits["examine", str(own)] == pytest.approx(15.0 + expected_s)
    assert limits["ready", "None"] == 60.0
    assert {limit_s for (_, subject), limit_s in limits.items() if Stream.named(subject)} == {60.0}


def test_a_case_is_visited_when_it_was_examined_unless_its_first_call_may_have_compiled(
    script: Script, tmp_path: Path
) -> None:
    jacobian, compiled, quick = case_of("explicit_jacobian"), case_of("fused_out"), case_of("fused")
    for case, first_call_s in ((jacobian, 0.2), (compiled, 0.1), (quick, 0.0999)):
        script.answers["examine", case.implementation] = partial(measured, case, first_call_s)
    run = opened(tmp_path)
    seen: list[Visit] = []

    class Watching(Observer):
        def visiting(self, rounds: Rounds) -> None:
            if not costs:
                costs.update(rounds.costs_s)

        def visited(self, visit: Visit) -> None:
            seen.append(visit)

    costs: dict[Subject, float] = {}
    run.measure([jacobian, compiled, quick, VECTORIZED], Watching())
    run.close()
    first = {
        case: next(visit for visit in seen if visit.case == str(case)).round for case in (jacobian, compiled, quick)
    }
    assert first == {jacobian: 0, compiled: 1, quick: 0}
    assert costs[jacobian] == pytest.approx(script.visit_s)
    assert compiled not in costs or costs[compiled] == 0.0
    assert seen == load_visits(tmp_path)


def test_each_visit_says_when_it_began_by_the_machine_s_clock(script: Script, tmp_path: Path) -> None:
    script.answers["examine", "explicit_jacobian"] = partial(measured, case_of("explicit_jacobian"), 0.2)
    swept(tmp_path, [VECTORIZED, case_of("explicit_jacobian")])
    assert all(visit.began_s == pytest.approx(1.7e9 + 100.0 + visit.when_s) for visit in load_visits(tmp_path))
    assert {visit.case for visit in load_visits(tmp_path)} > {str(VECTORIZED), str(case_of("explicit_jacobian"))}


def test_nothing_is_visited_in_a_run_without_times(script: Script, tmp_path: Path) -> None:
    rows = swept(tmp_path, [VECTORIZED], benchmark={})
    assert script.methods(VECTORIZED) == ["examine"]
    assert rows["vectorized"].visits is None
    assert load_run(tmp_path).ended
    assert settings_of(dataclasses.replace(RUN, options=dataclasses.replace(OPTIONS, benchmark={}))).visit is None
    assert settings_of(dataclasses.replace(RUN, options=OPTIONS)).visit == VisitSettings(0.3, 0.001)


def test_cases_that_the_time_box_does_not_reach_have_no_row(script: Script, tmp_path: Path) -> None:
    script.visit_s = 4.0
    cases = [case_of("vectorized", features) for features in (512, 1024, 2048, 4096)]
    rows = swept(tmp_path, cases, minutes=0.2)  # 12 s: an examination and a visit take 8 s
    assert list(rows) == ["vectorized", "vectorized-1024"]
    assert script.now_s - 100.0 < 12.0 + 8.0


def test_a_run_without_a_time_box_goes_on_until_all_has_settled(script: Script, tmp_path: Path) -> None:
    script.visit_s = 30.0
    rows = swept(tmp_path, [VECTORIZED], minutes=None)
    assert rows["vectorized"].settled == 1
    assert script.now_s > 100.0 + 60.0


def test_a_resumed_run_goes_on_where_it_stopped(script: Script, tmp_path: Path) -> None:
    script.answers["visit", "row_blocks"] = lambda: Timing(9, CALL_S * (1 + script.now_s), CALL_S * (2 + script.now_s))
    swept(tmp_path, [VECTORIZED, ROW_BLOCKS], minutes=0.1)
    before = load_visits(tmp_path)
    rows_before = load_rows(tmp_path)
    latest_s = max(visit.when_s for visit in before)
    script.asked.clear()
    script.now_s += 1000.0
    stored = load_run(tmp_path)
    run = OpenRun(dataclasses.replace(stored, options=dataclasses.replace(OPTIONS, minutes=0.4)), tmp_path)
    assert [row.case for row in run.rows.values()] == [row.case for row in rows_before]
    assert run.now_s() == pytest.approx(latest_s + 1.0)
    run.measure([VECTORIZED, ROW_BLOCKS], Observer())
    run.close()
    after = load_visits(tmp_path)
    assert after[: len(before)] == before
    added = after[len(before) :]
    assert added[0].when_s == pytest.approx(latest_s + 1.0, abs=0.02)
    assert added[0].round == max(visit.round for visit in before) + 1
    assert "examine" not in script.methods(ROW_BLOCKS)
    assert script.methods(VECTORIZED) == []  # it had settled
    assert [sitting.wall_s for sitting in load_run(tmp_path).sittings] == [
        stored.sittings[0].wall_s, load_run(tmp_path).sittings[1].wall_s,
    ]  # fmt: skip


def test_a_resumed_run_knows_what_its_visits_take_and_keeps_its_deadline(script: Script, tmp_path: Path) -> None:
    script.visit_s = 4.0
    swept(tmp_path, [VECTORIZED], minutes=0.15)  # 9 s: an examination, a visit, and one of the stream
    assert script.methods(VECTORIZED) == ["examine", "visit"]
    script.asked.clear()
    options = dataclasses.replace(OPTIONS, minutes=0.25)  # 15 s, of which 12 s are over: too few for a visit
    run = OpenRun(dataclasses.replace(load_run(tmp_path), options=options), tmp_path)
    run.measure([VECTORIZED], Observer())
    run.close()
    assert script.asked == []


def test_a_run_says_how_long_it_took_and_measured_and_whether_it_ended(script: Script, tmp_path: Path) -> None:
    run = opened(tmp_path)
    assert load_run(tmp_path).ended
    script.now_s += 50.0  # waiting for the machine

    class Stopping(Observer):
        def examined(self, row: Row) -> None:
            assert not load_run(tmp_path).ended
            assert load_rows(tmp_path) == [row]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.measure([VECTORIZED], Stopping())
    run.close()
    stored = load_run(tmp_path)
    assert not stored.ended
    # Its start, an examination and a visit; the waiting is left out, and so is the start of what is measured.
    assert stored.sittings == [SittingTimes(wall_s=0.11, measuring_s=0.1)]
    run.close()  # once is enough
    assert load_run(tmp_path).sittings == stored.sittings


def test_an_open_run_is_nobody_else_s(script: Script, tmp_path: Path) -> None:
    run = opened(tmp_path)
    with pytest.raises(BusyError):
        opened(tmp_path)
    run.close()
    opened(tmp_path).close()


def test_an_observer_follows_each_step(script: Script, tmp_path: Path) -> None:
    seen: list[str] = []

    class Noting(Observer):
        def examining(self, case: Case) -> None:
            seen.append(f"examining {case.implementation}")

        def examined(self, row: Row) -> None:
            seen.append(f"examined {row.implementation}")

        def visiting(self, rounds: Rounds) -> None:
            seen.append("visiting")

        def visited(self, visit: Visit) -> None:
            seen.append("visited")

    swept(tmp_path, [VECTORIZED, ROW_BLOCKS], Noting())
    assert seen[:8] == [
        "examining vectorized", "visited", "examined vectorized",
        "examining row_blocks", "visited", "examined row_blocks", "visiting", "visited",
    ]  # fmt: skip
    assert seen.count("visited") == len(load_visits(tmp_path))
