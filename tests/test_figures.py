"""Every figure in the README and in docs/ is what its stored table says, and every link leads somewhere.

A page's function yields parts of its sentences, in which each measured figure is computed from the stored tables. Every
other number on a page must be listed in ``NOT_MEASURED``.
"""

import itertools
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from softmax_bench.accuracy.study import load_study as load_accuracy
from softmax_bench.fleet.calibration import IN_A_ROW, LARGEST_DRIFT, LARGEST_SLOWDOWN, LEAST_LOOKS
from softmax_bench.fleet.scale import CASE_S, SHARE_CASES, load_scale
from softmax_bench.implementations import NUMPY
from softmax_bench.implementations.cross_entropy import BACKWARD, BOTH
from softmax_bench.instruments.agreement import (
    AGREEMENT,
    CHOICE,
    FULL_PACE,
    LONG_S,
    LONGEST_S,
    OF_LONG_CALLS,
    OF_THREADS,
    REACH_OF_RUNS,
    REACH_OF_SPREAD,
)
from softmax_bench.operations.cases import Case, make_inputs
from softmax_bench.regression.gate import (
    CONTROL_PADDING,
    LIBRARY_MARGIN,
    LONG_MARGIN,
    MARGIN,
    THREADS_MARGIN,
    Rule,
    Screening,
)
from softmax_bench.regression.named import PADDING
from softmax_bench.regression.quality.study import load_trials
from softmax_bench.regression.targets import SHAPES, TARGET_MARGIN
from softmax_bench.repeatability.outcomes import Outcome, RuleOutcome, Scope, outcomes, percent, rule_outcomes
from softmax_bench.repeatability.study import load_rules, load_sessions
from softmax_bench.repeatability.tools import OURS
from softmax_bench.sweep.open_run import PROCESSES
from softmax_bench.sweep.selection import GRIDS
from softmax_bench.sweep.summary import article_sentence
from softmax_bench.tolerances.command import cells_of
from softmax_bench.tolerances.draws import INPUTS, MAX_JACOBIAN_FEATURES
from softmax_bench.tolerances.findings import largest_share, of_softmax, zeros_from
from softmax_bench.tolerances.rules import ASSERT_CLOSE, GRADCHECK, NUMPY_CLOSE, RULES
from softmax_bench.tolerances.rules import OURS as ULP_OF_TERMS
from softmax_bench.tolerances.study import load_study as load_tolerances
from softmax_bench.training.outcomes import AS_WELL, AS_WELL_WITHIN, Result, judge, spread
from softmax_bench.training.study import load_study as load_training
from softmax_bench.units import between, factor, gain_in_words, quantity, significant
from softmax_bench.verification.judging.timing import CALLS_SHARE, OVERHEAD_SHARE

from .conftest import ROOT, SoftmaxBench
from .figures import RESULTS, Sweep, complaints, mark, mark_numbers

PAGES = {
    path.relative_to(ROOT).as_posix(): path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
SMALL, MIDDLE, ARTICLE, LARGE = (32, 10), (32, 128), (32, 512), (512, 8192)

NOT_MEASURED = {
    "shape or size": (
        r"\d+ × \d+",
        "batch 32, features 512",
        "arrays of 8 MB and more",
        "counts softmax twice",
        "multiplied into a third",
        "from 10 to 131072 features",
        "random inputs of 4 rows",
        "4096 times smaller",
        "over 4096 tokens",
        "every step to 16 bits",
        "float32 or half precision inside",
        "floor of 1e-8 knows",
    ),
    "formula": (
        r"N²s \+ 2BN²s",
        r"3·B·N·s",
        r"1\.2·10⁻³⁸",
        r"times 1 \+ 2 max",
        "underflowed to 0",
        "subnormal numbers for 0",
        "is 0 and hides",
        "rows sum to 0",
        "half an ulp for each unit",
        r"uniform in \[0, 1\), so",
        "half an ulp of the result",
    ),
    "the article's own figure": ("65.1 ms against 31.9 µs", '"2000 times faster"', r"\*\*2000× is one point"),
    "version": (r"Python 3\.11 \(3\.11\.4 or newer\)", r"NumPy 2\.4 keeps"),
    "time of a command": ("under 40 s with NumPy",),
    "constant of the code": (
        "more than 500 rows",
        "512 items in lanes",
        "a row of 131072",
        "64 MiB or more",
        "above 32 MiB",
        "longer than 65536",
        "from 1 to 10 000",
        "at a standard deviation of 10 in float32",
        "Missing is empty, never 0",
    ),
    "rule of a share or of what hangs": (
        r"shares of about half a minute",
        r"measured on \S+ machines \(2\)",
        "within about half a second",
        "longer than three times what was predicted",
        "so that what arrives twice is stored once",
    ),
    "meaning of a column": (r"whether they agree \(1 or 0\)", "0: just after the case was examined"),
    "option's default": ("4 for the default grid", "half of the free memory", "more than 0.25 s", r"\(512 KiB\)"),
    "exit status": (
        "is 0 when every case was measured or skipped, 1 when one was wrong or failed, 2 when",
        "and 130 when it was interrupted",
        r"Exit status[^:|]*: 0 [a-z ]+, 1 [a-z ]+, 2 [a-z]+",
        "the exit status is 1\\), and which case is",
        r"turns both 1 and 2 into its own 2",
        r"the exit status is 0; with \S+ it is 1",
        r"Exit status: 0 right, also with a limit, 1 wrong or not believed, 2 it could not",
        r"with exit status 1: see",
        r"2 inconclusive, or not possible",
        r"exit (2, never 1|2|130)\b",
        "status 2: only a regression exits with 1",
    ),
    "how a fault is caused": (
        "reads address 0",
        "0 threads, times below the floor",
        "Hypothesis, 100 000 of them",
        "ids of 300 letters, seed -1",
        r"not UTF-8 \| 40 columns",
    ),
    "confidence or condition": (
        "runs at half its speed",
        "in 95% of cases",
        "90th percentile",
        "one case slowed by 1 to 5%",
        "at 95% confidence",
        "as for normal errors, to 99%",
    ),
}
LISTED = list(itertools.chain.from_iterable(NOT_MEASURED.values()))


def readme(sweep: Sweep) -> Iterator[str]:
    yield mark_numbers(article_sentence(sweep.frame))
    assert sweep.value("speedup_settled", "vectorized", ARTICLE) == 1
    slope = []
    for shape in (SMALL, MIDDLE):
        ends = [sweep.value(column, "vectorized", shape) for column in ("speedup_low", "speedup_high")]
        slope.append(f"{sweep.speedup('vectorized', shape)} {mark_numbers(between(*ends))}")
    yield f"It is {slope[0]} at 32 × 10 and {slope[1]} at 32 × 128"
    yield f"on {mark(sweep.run.machine['cores'])} cores of an AMD EPYC"
    gain = sweep.seconds("vectorized", ARTICLE) / sweep.seconds("fused_out", ARTICLE)
    yield f"one compiled pass over the arrays is {mark(factor(gain))} as fast at 32 × 512"


def limits(sweep: Sweep) -> Iterator[str]:
    yield from limits_of_the_run(sweep)
    yield from limits_of_the_machine(sweep)
    yield from limits_of_threads_and_memory(sweep)
    yield from subnormals(sweep)


def limits_of_the_run(sweep: Sweep) -> Iterator[str]:
    machine, versions = sweep.run.machine, sweep.run.versions
    yield f"on {mark(machine['cores'])} cores of an AMD EPYC"
    yield (
        f"with {mark(quantity(machine['memory_bytes'], 'B'))} of memory, Linux, Python {mark(versions['python'])} and "
        f"NumPy {mark(versions['numpy'])}"
    )
    counts = sweep.frame["status"].value_counts()
    yield f"measured {mark(counts['measured'])} cases and skipped {mark(counts['skipped'])},"
    slope = {shape: sweep.speedup("vectorized", shape) for shape in (SMALL, MIDDLE, ARTICLE)}
    yield ", ".join(f"{speedup} at {batch} × {features}" for (batch, features), speedup in slope.items())
    predicted = quantity(sweep.value("predicted_peak_bytes", "explicit_jacobian", LARGE), "B")
    yield f"512 × 8192 would take {mark(predicted)}; the vectorized form takes {sweep.peak('vectorized', LARGE)}"
    peaks = [sweep.value("peak_bytes", name, ARTICLE) for name in ("explicit_jacobian", "row_loop")]
    yield f"It is {sweep.speedup('row_loop', ARTICLE)} as fast as the batched `explicit_jacobian` at 32 × 512"
    yield f"needs {mark('1/' + significant(peaks[0] / peaks[1]))} of its memory"
    yield f"its matrices of {mark(quantity(512 * 512 * 8, 'B'))} stay in cache"
    yield f"[32, 512, 512] arrays of {mark(quantity(32 * 512 * 512 * 8, 'B'))} do not"
    slowness = sweep.seconds("row_loop", SMALL) / sweep.seconds("explicit_jacobian", SMALL)
    yield f"At 32 × 10 the same loop takes {mark(factor(slowness))} as long"
    yield (
        f"{sweep.time('vectorized_out', ARTICLE)} for `vectorized_out` and {sweep.time('vectorized', ARTICLE)} for "
        f"`vectorized` at 32 × 512"
    )
    faults = sweep.value("minor_faults", "vectorized", ARTICLE)
    yield f"(column `minor_faults`: {mark(f'{faults:.0f}')})"
    yield f"`vectorized_vecdot` ({sweep.time('vectorized_vecdot', ARTICLE)})"
    first_s = mark(quantity(sweep.value("first_call_s", "explicit_jacobian", (1, 8192)), "s"))
    yield (
        f"`explicit_jacobian` at 1 × 8192 ({sweep.peak('explicit_jacobian', (1, 8192))}) took {first_s} the first time "
        f"and {sweep.time('explicit_jacobian', (1, 8192))} once it was warm"
    )


def limits_of_the_machine(sweep: Sweep) -> Iterator[str]:
    yield f"The one-liner is {sweep.speedup('vectorized', ARTICLE)} as fast as the Jacobian at 32 × 512"
    for name, threads in (
        *(("explicit_jacobian", 1), ("vectorized", 1), ("vectorized_out", 1), ("vectorized_vecdot", 1)),
        *(("row_blocks", 1), ("row_blocks_threads", 2), ("fused", 1), ("fused_reused", 1), ("fused_out", 1)),
        *(("fused_parallel_out", 2), ("torch_kernel_out", 1), ("torch_kernel_out", 2), ("torch_autograd", 1)),
        *(("torch_compiled", 1), ("jax_vjp_jit", 1), ("numexpr_out", 1)),
    ):
        cells = [
            figure(name, shape, threads=threads) for shape in (ARTICLE, LARGE) for figure in (sweep.time, sweep.share)
        ]
        yield f"| `{name}` | {mark(threads)} | {' | '.join(cells)} |"
    shares = sweep.frame[sweep.frame["settled"] == 1].sort_values("ceiling_share").iloc[-1]
    shape = f"{shares['batch']} × {shares['features']}"
    share = mark(format(shares["ceiling_share"], ".0%"))
    yield f"The largest of all is {share} (`{shares['implementation']}`, {mark(shape)})"
    first_calls = [sweep.longest_first_call(name) for name in ("fused", "fused_parallel", "torch_compiled")]
    yield "{} for `fused`, {} for `fused_parallel`, {} for `torch_compiled`".format(*first_calls)


def limits_of_threads_and_memory(sweep: Sweep) -> Iterator[str]:
    pools = sweep.frame[(sweep.frame["implementation"] == "row_blocks_threads") & (sweep.frame["dtype"] == "float64")]
    large = pools[pools["batch"] * pools["features"] * 8 >= 8e6].set_index(["batch", "features", "threads"])
    gains = (large["time_s"].xs(1, level="threads") / large["time_s"].xs(2, level="threads")).tolist()
    slowest, fastest = (
        gain_in_words(ratio, np.nan, np.nan, ("faster", "slower")) for ratio in (min(gains), max(gains))
    )
    yield f"two threads are between {mark_numbers(slowest)} and {mark_numbers(fastest)} than one"
    waking = sweep.seconds("row_blocks_threads", ARTICLE, threads=2) / sweep.seconds("row_blocks", ARTICLE)
    yield f"two threads take {mark(factor(waking))} as long as `row_blocks`"
    compiled = {
        shape: sweep.seconds("vectorized", shape) / sweep.seconds("fused_out", shape) for shape in (ARTICLE, LARGE)
    }
    yield (
        f"It is {mark(factor(compiled[ARTICLE]))} as fast as the one-liner at 32 × 512 and "
        f"{mark(factor(compiled[LARGE]))} as fast at 512 × 8192"
    )
    pages = sweep.value("minor_faults", "torch_kernel", LARGE)
    yield (
        f"touches {mark(f'{pages:.0f}')} new pages in a call there and takes "
        f"{sweep.time('torch_kernel', LARGE)}, `torch_kernel_out` {sweep.time('torch_kernel_out', LARGE)}"
    )
    fused, fused_out = (sweep.time(name, LARGE) for name in ("fused", "fused_out"))
    yield f"`fused` takes {fused}, `fused_out` {fused_out}"
    parallel = {shape: sweep.seconds("fused_parallel_out", shape, threads=2) for shape in (ARTICLE, LARGE)}
    gain = {shape: mark(factor(sweep.seconds("fused_out", shape) / parallel[shape])) for shape in (ARTICLE, LARGE)}
    to_one_liner = mark(factor(sweep.seconds("vectorized", LARGE) / parallel[LARGE]))
    yield f"two threads are {gain[LARGE]} as fast as `fused_out` at 512 × 8192, and {to_one_liner} as fast as the"
    yield f"little more than it costs to wake ({gain[ARTICLE]})"


def subnormals(sweep: Sweep) -> Iterator[str]:
    probs = make_inputs(Case("softmax", "vectorized", *ARTICLE, "float32", "peaked"), sweep.run.seed).probs
    share = np.mean((probs > 0) & (probs < np.finfo(np.float32).smallest_normal))
    yield f"{mark(f'{share:.0%}')} of the probabilities are subnormal"
    for name in ("vectorized", "fused_out", "torch_kernel_out", "fused_flushing_out"):
        seconds = [sweep.seconds(name, ARTICLE, dtype="float32", logits=logits) for logits in ("normal", "peaked")]
        times = [mark(quantity(value, "s")) for value in seconds]
        yield f"| `{name}` | {' | '.join(times)} | {mark(factor(seconds[1] / seconds[0]))} |"


def judging(_: Sweep) -> Iterator[str]:
    overhead, calls = mark(f"{OVERHEAD_SHARE:.0%}"), mark(f"{CALLS_SHARE:.0%}")
    yield f"less than {overhead} of what the handing over takes plus {calls} of the calls"


def regression(_: Sweep) -> Iterator[str]:
    rule = Rule()
    margins = {
        "short calls": MARGIN,
        "the article's own baseline is one": LONG_MARGIN,
        "our own code with two threads": THREADS_MARGIN,
        "PyTorch, JAX and NumExpr, one thread": LIBRARY_MARGIN,
    }
    for kind, margin in margins.items():
        yield f"{kind} | {mark(f'{margin:.1%}')} |"
    yield f"screened by {mark(Screening().processes)} processes"
    yield f"again by {mark(rule.confirming)} fresh processes"
    yield f"the margin of its kind of case, with {mark(f'{rule.alpha:.0%}')} false alarms"
    yield f"with {mark(f'{CONTROL_PADDING:.0%}')} padding must alarm"
    yield from gate_quality()


def own_repository(_: Sweep) -> Iterator[str]:
    yield f"slowed by {mark(f'{PADDING:.0%}')} must"
    yield f"Its margin is {mark(f'{TARGET_MARGIN:.0%}')}."
    yield f"differ by more than {mark(f'{TARGET_MARGIN:.0%}')} (two implementations"
    yield f'as `"3%"` or `0.03` | {mark(f"{TARGET_MARGIN:.0%}")} |'
    yield f"| {', '.join(mark(f'{batch} × {features}') for batch, features in SHAPES)} |"


def gate_quality() -> Iterator[str]:
    trials = load_trials(RESULTS / "gate-quality")
    checks = trials[trials["method"] == "gate"]
    slowed = checks["kind"] != "comment"
    was_right = (
        (checks["false_alarms"] == 0) & (checks["found"] == slowed) & ((checks["outcome"] == "regression") == slowed)
    )

    def right(kinds: Iterable[str], size: float, load: str) -> str:
        same_size = checks["size"].isna() if np.isnan(size) else checks["size"] == size
        mine = was_right[checks["kind"].isin(kinds) & same_size & (checks["load"] == load)]
        return mark(f"{mine.sum()} of {len(mine)}")

    yield f"The outcomes of {mark(len(checks))} trials"
    yield f"was right in {mark(f'{was_right.sum()} of {len(checks)}')}"
    yield f"| nothing but a comment | idle | {right(['comment'], 0.0, 'idle')} |"
    for size, load in (
        *((0.01, "idle"), (0.02, "idle"), (0.03, "idle"), (0.05, "idle")),
        *((0.03, "one core hogged"), (0.03, "both cores hogged"), (0.05, "memory hogged")),
    ):
        yield f"| one case slowed by {mark(f'{size:.0%}')} | {load} | {right(['spin'], size, load)} |"
    yield f"| all cases slowed by {mark('5%')} | idle | {right(['uniform'], 0.05, 'idle')} |"
    changed = right(["copy", "upcast", "strided"], np.nan, "idle")
    yield f"| source: one copy more, a wider sum, a strided operand | idle | {changed} |"
    spun = checks[(checks["kind"] == "spin") & (checks["load"] == "idle")]
    assured = {f"{size:.0%}": _least_share(was_right[mine.index]) for size, mine in spun.groupby("size")}
    yield f"{mark(next(iter(assured)))} is the smallest slow-down"
    yield f"in at least {assured['1%']} of checks at 95% confidence, a slow-down of 2% in at least {assured['2%']}"
    for title, method in (
        ("pytest-benchmark, stored run, `min:5%`", "min:5%"),
        ("pytest-benchmark, stored run, `mean:10%`", "mean:10%"),
        ("`asv continuous`, factor 1.05", "asv:5%"),
        ("`asv continuous`, factor 1.1", "asv:10%"),
    ):
        mine = trials[trials["method"] == method]
        same, slow = (mine[mine["kind"] == kind] for kind in ("comment", "spin"))
        cells = [
            f"{(same['outcome'] == 'regression').sum()} of {len(same)}",
            f"{(slow['found'] == 1).sum()} of {len(slow)}",
            f"{(slow['false_alarms'] > 0).sum()} of {len(slow)}",
        ]
        yield f"| {title} | {' | '.join(map(mark, cells))} |"


def _least_share(hits: "pd.Series[bool]") -> str:
    """The share of hits that is exceeded at 95% confidence, rounded down."""
    low = stats.binomtest(int(hits.sum()), len(hits), alternative="greater").proportion_ci(0.95).low
    return mark(f"{int(100 * low)}%")


def homework(sweep: Sweep) -> Iterator[str]:
    for name in ("one_node", "one_node_integer_targets", "log_softmax", "two_nodes_vectorized", "two_nodes_jacobian"):
        times = [sweep.time(name, shape, operation=BOTH) for shape in (SMALL, ARTICLE)]
        yield f"| `{name}` | {' | '.join(times)} | {sweep.peak(name, ARTICLE, operation=BOTH)} |"
    for name in ("one_node", "two_nodes_vectorized"):
        cells = []
        for shape in (SMALL, ARTICLE):
            saved = significant(sweep.value("memory_ratio", name, shape, operation=BOTH))
            cells += [sweep.speedup(name, shape, operation=BOTH), mark(f"1/{saved}")]
        yield f"| `{name}` | {' | '.join(cells)} |"
    alone = [sweep.speedup("one_node", shape, operation=BACKWARD) for shape in (SMALL, ARTICLE)]
    yield f"`one_node` is {alone[0]} as fast at 32 × 10 and {alone[1]} as fast at 32 × 512"
    yield from accuracy()
    yield from training()


def accuracy() -> Iterator[str]:
    rows = load_accuracy(RESULTS / "accuracy")[1]

    def worst(column: str, name: str, **where: object) -> float:
        mine = rows[rows["implementation"] == name]
        for axis, wanted in where.items():
            mine = mine[mine[axis] == wanted]
        return float(mine[column].max())

    one_node = max(worst("loss_error_ulp", name) for name in ("one_node", "one_node_integer_targets", "log_softmax"))
    yield f"is within {mark(significant(one_node))} units in the last place"
    yield f"`cross_entropy` within {mark(significant(worst('loss_error_ulp', 'pytorch_cross_entropy')))}"
    two_nodes = rows[rows["implementation"].str.startswith("two_nodes") & (rows["reason"] != "")]
    fails_from = two_nodes.groupby(["dtype", "implementation"])["scale"].min().groupby("dtype").unique()
    first = {str(dtype): mark(f"{scale:g}") for dtype, (scale,) in fails_from.items()}  # the same for all of them
    yield (
        f"from a standard deviation of {first['float16']} on in float16, {first['float32']} in float32 and "
        f"{first['float64']} in float64"
    )

    def gradient(name: str, dtype: str) -> float:
        return worst("grad_error_ulp", name, dtype=dtype)

    errors = {name: [gradient(name, dtype) for dtype in ("float32", "float64")] for name in ("one_node", "log_softmax")}
    texts = {name: [mark(significant(value)) for value in values] for name, values in errors.items()}
    yield f"{texts['one_node'][0]} ulp at worst in float32, {texts['one_node'][1]} in float64"
    twice = errors["log_softmax"][1] / errors["one_node"][1]
    yield f"lose about {mark(f'{twice:.0f}')} times as much ({' and '.join(texts['log_softmax'])} ulp)"
    jacobian, vectorized = (
        worst("grad_error_ulp", f"two_nodes_{name}", dtype="float32", scale=10.0) for name in ("jacobian", "vectorized")
    )
    yield (
        f"its error is {mark(significant(jacobian / 1e6))} million ulp, that of the vectorized form "
        f"{mark(significant(vectorized))}"
    )
    unshifted = worst("grad_error_ulp", "two_nodes_unshifted")
    yield f"the most exact of all ({mark(significant(unshifted))} ulp at worst)"


def training() -> Iterator[str]:
    judged = judge(load_training(RESULTS / "training")[1])

    def reached(network: str, operation: str, gradient: str) -> str:
        result = next(
            result
            for result in judged[network]
            if (result.last.operation, result.last.gradient) == (operation, gradient)
        )
        return mark(f"{result.last.test_accuracy:.1%}")

    yield f"differ by {mark(f'{max(map(spread, judged.values())):.0e}')} of the loss at most"
    last, middle = (
        mark(f"{min(result.last.test_accuracy for result in judged[network] if result.is_right):.1%}")
        for network in ("last", "middle")
    )
    yield f"classify {last} of the test images correctly with softmax last, {middle} with softmax in the middle"
    slow, fast = (
        next(result for result in judged["middle"] if result.last.gradient == name)
        for name in ("explicit_jacobian", "vectorized")
    )
    yield f"an epoch takes {mark(factor(slow.epoch_s / fast.epoch_s))} as long"
    yield f"{mark(f'{slow.softmax_share:.0%}')} of its time in one and {mark(f'{fast.softmax_share:.0%}')} in the other"

    def survivors(results: list[Result]) -> str:
        wrong = [result for result in results if not result.is_right]
        return mark(f"{sum(result.outcome == AS_WELL for result in wrong)} of {len(wrong)}")

    within = mark(f"{100 * AS_WELL_WITHIN:.0f}")
    yield f"{survivors(judged['last'])} and {survivors(judged['middle'])} end at most {within} points below"
    diagonal, zeros = (reached("middle", "softmax", name) for name in ("diagonal_only", "jacobian_summed"))
    yield f"`probs * (1 - probs) * grad_output` reaches {diagonal} and a gradient of nothing but zeros {zeros}"
    yield f"learns nothing behind the right loss ({reached('last', 'softmax', 'diagonal_only')})"
    both = reached("last", "cross_entropy+softmax", "fused_gradient_at_loss_node+diagonal_only")
    yield f"the pair that the question ends with, it reaches {both}"


def repeatability(_: Sweep) -> Iterator[str]:
    folder = RESULTS / "repeatability"
    found = list(outcomes(load_sessions(folder)))
    for outcome in found:
        if outcome.tool == OURS and not outcome.scope.shared:
            yield f"| {outcome.load} | {outcome.scope.words} | {' | '.join(map(mark, sweep_cells(outcome)))} |"
        if outcome.scope == Scope():
            yield f"| {outcome.load} | {outcome.tool} | {' | '.join(map(mark, tool_cells(outcome)))} |"
    rule = AGREEMENT
    yield (
        f"A case is visited until its {mark(rule.moments)} fastest visits, of which no two lie closer in time than "
        f"{mark(f'{rule.apart_s:g} s')}, are within {mark(f'{rule.within:.0%}')} of the fastest, but at least "
        f"{mark(rule.visits)} times, or until the time is up."
    )
    yield f"at least {mark(OF_THREADS.visits)} visits"
    yield f"with fewer than {mark(OF_THREADS.least)} it has not settled"
    span_ms = f"{mark(f'{1000 * LONG_S:g}')} to {mark(f'{1000 * LONGEST_S:g} ms')}"
    yield f"Calls of {span_ms} take at least {mark(OF_LONG_CALLS.visits)} visits"
    yield f"with fewer than {mark(OF_LONG_CALLS.least)} they have not settled"
    yield f"At least {mark('half')} of the {mark(rule.moments)} have to have been made at full pace"
    yield f"a loop beside them takes at most {mark(f'{FULL_PACE:g} times')} as long as the run's fastest one"
    yield f"visited on until {mark(CHOICE * rule.moments)} visits were, settled or not"
    yield f"the {mark(rule.moments)} fastest are nearly all that were made at full pace"
    for replay in rule_outcomes(load_rules(folder)):
        if (replay.moments, replay.within, replay.apart_s, replay.at_least) in SHOWN_RULES:
            yield f"| {replay.load} | {' | '.join(map(mark, rule_cells(replay)))} |"
    small, default = (GRIDS[name].minutes for name in ("quick", "default"))
    yield (
        f"need more visits than the {mark(f'{60 * small:.0f} s')} of the small grid allow there; so fewer cases settle "
        f"than in the {mark(f'{default:g} minutes')} of the default grid"
    )
    yield f"visited in {mark(PROCESSES[NUMPY])} processes by turns"
    yield f"{mark(f'{REACH_OF_RUNS:.0%}')} is the difference between runs"
    yield f"{mark(f'{REACH_OF_SPREAD:g}')} times the spread"


def tolerances(_: Sweep) -> Iterator[str]:
    rows = load_tolerances(RESULTS / "tolerances")[1]
    groups = {(dtype, rule): group for dtype, rule, group in of_softmax(rows)}
    yield from usual_rules(groups)
    yield from other_measures(groups)
    ours = rows[rows["rule"] == ULP_OF_TERMS]
    assert not ours["zeros_pass"].any()
    assert ours["tail_passes"].max() == 0
    yield (
        f"In these trials {mark(ours['passing'].sum())} of {mark(ours['mistakes'].sum())} mistakes pass it, no zeros "
        f"and no dropped elements, and {mark(ours['right_rejected'].sum())} of {mark(ours['right_forms'].sum())} right "
        "results are rejected."
    )
    yield f"above {mark(MAX_JACOBIAN_FEATURES)} features"
    checks = {rule.name: rule.checks for rule in RULES}
    table = []
    for (dtype, rule), group in groups.items():
        cells = [mark(cell) for kind in INPUTS for cell in cells_of(group, kind)]
        rejected = f"{mark(group['right_rejected'].sum())} of {mark(group['right_forms'].sum())}"
        table.append(f"| {rule} | {checks[rule][dtype]} | {' | '.join(cells)} | {rejected} |")
    yield from dict.fromkeys(table)  # two dtypes may have the same line
    yield losses_passing(rows)
    for source in dict.fromkeys(rule.source for rule in RULES):
        yield f"- {', '.join(rule.name for rule in RULES if rule.source == source)}: {source}"


def usual_rules(groups: dict[tuple[str, str], pd.DataFrame]) -> Iterator[str]:
    def share(dtype: str, rule: str, kind: str) -> str:
        return mark(f"{largest_share(groups[dtype, rule], kind):.0%}")

    def zeros(dtype: str, rule: str, kind: str) -> str:
        return mark(zeros_from(groups[dtype, rule], kind) or "never")

    def rejected(dtype: str, rule: str) -> str:
        group = groups[dtype, rule]
        return f"{mark(group['right_rejected'].sum())} of {mark(group['right_forms'].sum())}"

    absolute = [zeros("float32", "absolute 1e-2", kind) for kind in ("normal", "flat")]
    yield (
        f"**An absolute 1e-2** in float32 accepts zeros from {absolute[0]} features on with normal logits, and from "
        f"{absolute[1]} with flat ones, where up to {share('float32', 'absolute 1e-2', 'flat')} of the mistakes pass."
    )
    kernels = ("Liger-Kernel", "quack", "KernelBench")
    normal, flat = ([zeros("bfloat16", rule, kind) for rule in kernels] for kind in ("normal", "flat"))
    assert normal[1] == normal[2]
    assert flat[1] == flat[2]
    yield (
        f"in bfloat16 accept zeros from {normal[0]} features on (Liger-Kernel) and from {normal[1]} (quack, "
        f"KernelBench) with normal logits, and from {flat[0]} and {flat[1]} with flat ones."
    )
    (everywhere,) = {zeros(dtype, rule, "averaged") for dtype, rule in AVERAGED}
    single, double = (zeros(dtype, ASSERT_CLOSE, "averaged") for dtype in ("float32", "float64"))
    yield (
        f"all of these accept zeros from {everywhere} features on, the smallest size tried. "
        f"`torch.testing.assert_close` accepts them from {single} in float32 and from {double} in float64. "
        "`numpy.allclose`, which sees every mistake in float32 where `grad_output` is about 1, lets "
        f"{share('float32', NUMPY_CLOSE, 'averaged')} pass."
    )
    for kind in ("normal", "flat"):
        assert largest_share(groups["float32", NUMPY_CLOSE], kind) == 0
    yield (
        f"`numpy.testing.assert_allclose` rejects {rejected('float32', 'numpy assert_allclose')} right results, an "
        f"error of 1e-7 as in class notes {rejected('float32', 'cs231n 1e-7')}."
    )
    for dtype, rule in (("float64", GRADCHECK), ("float64", "cs231n 1e-4"), ("float32", "cs231n 1e-4")):
        assert set(" ".join(groups[dtype, rule]["passing_names"]).split()) <= {"single_precision"}
    largest = mark(groups["float64", GRADCHECK]["features"].max())
    yield f"`gradcheck` (tried up to {largest} features) and an error of 1e-4"


AVERAGED = (
    ("float32", "absolute 1e-2"),
    ("bfloat16", "Liger-Kernel"),
    ("bfloat16", "quack"),
    ("bfloat16", "KernelBench"),
)


def other_measures(groups: dict[tuple[str, str], pd.DataFrame]) -> Iterator[str]:
    norms = groups["float32", "xformers"]
    assert all("wrong_sign" in names.split() for names in norms["passing_names"])
    cosine, similarity = (groups["bfloat16", rule] for rule in ("FlashInfer", "DeepGEMM"))
    of_cosine, of_similarity = (
        mark(f"{max(largest_share(group, kind) for kind in INPUTS):.0%}") for group in (cosine, similarity)
    )
    yield f"a cosine above 0.99 (FlashInfer) up to {of_cosine} of all mistakes, among them every factor"
    for names in cosine["passing_names"]:
        assert {"scaled", "divided_by_batch"} <= set(names.split())
    dropped = mark(similarity.loc[similarity["tail_passes"] == 1, "features"].min())
    yield (
        f"DeepGEMM's similarity does better ({of_similarity} at most), but lets a right gradient pass whose last "
        f"element of each row is missing, first at {dropped} features."
    )


def losses_passing(rows: pd.DataFrame) -> str:
    """How many mistakes of the two losses pass at most: by elements, by the norm, by the cosine."""
    losses = rows[rows["operation"] != "softmax"]
    assert not losses["zeros_pass"].any()
    by_element = ~losses["rule"].isin(["xformers", "FlashInfer", "DeepGEMM"])
    parts = []
    for operation in ("softmax_cross_entropy", "cross_entropy"):
        mine = losses["operation"] == operation
        passing = [
            mark(losses.loc[mine & rule, "passing"].max())
            for rule in (by_element, losses["rule"] == "xformers", losses["rule"] == "FlashInfer")
        ]
        parts.append(f"{passing[0]}, {passing[1]} and {passing[2]} of {mark(losses.loc[mine, 'mistakes'].max())}")
    return (
        f"Compared element by element, by the norm, and by the cosine, at most {parts[0]} mistakes pass of softmax "
        f"with cross-entropy, and {parts[1]} of cross-entropy alone."
    )


def fleet(_: Sweep) -> Iterator[str]:
    scales, samples = load_scale(RESULTS / "fleet-scale")
    largest = scales[-1]
    yield f"three fixed cases are visited for about {mark('half')} a second"
    yield f"Beyond {mark(f'{LARGEST_DRIFT:.0%}')} the machine"
    yield f"where {mark(IN_A_ROW)} looks in a row at one case take more than {mark(f'{1 + LARGEST_SLOWDOWN:g}')} times"
    yield f"Fewer than {mark(LEAST_LOOKS)} looks"
    yield f"measuring a case only sleeps {mark(f'{CASE_S:g} s')}, {mark(SHARE_CASES)} cases to a share"
    for scale in scales:
        cells = [
            f"{scale.workers}",
            f"{scale.cases}",
            f"{scale.seconds:.0f} s",
            f"{scale.cases_per_s:.0f}",
            f"{scale.not_measuring:.0%}",
            quantity(scale.driver_first_bytes, "B"),
            quantity(scale.driver_last_bytes, "B"),
            quantity(scale.scheduler_last_bytes, "B"),
        ]
        yield f"| {' | '.join(map(mark, cells))} |"
    driver_s, scheduler_s = (
        busy * largest.seconds / largest.cases for busy in (largest.driver_busy, largest.scheduler_busy)
    )
    yield f"The driver took {mark(quantity(driver_s, 's'))} of a processor for a case"
    yield f"the scheduler {mark(quantity(scheduler_s, 's'))}"
    yield f"at about {mark(f'{1 / max(driver_s, scheduler_s):.0f}')} cases a second"
    mine = [sample for sample in samples if sample.workers == largest.workers and sample.cases > largest.cases / 10]
    grown = (mine[-1].scheduler_bytes - mine[0].scheduler_bytes) / (mine[-1].cases - mine[0].cases)
    yield f"The scheduler's memory grows by {mark(quantity(grown, 'B'))} a case"


SHOWN_RULES = (
    (2, 0.03, 0.0, 2),
    (3, 0.03, 0.0, 3),
    (4, 0.02, 1.0, 4),
    (5, 0.03, 1.0, 5),
    (6, 0.03, 1.0, 6),
    (6, 0.05, 1.0, 6),
    (6, 0.04, 1.0, 18),
)


def sweep_cells(outcome: Outcome) -> list[str]:
    shares = (*outcome.time, *outcome.speedup, outcome.settled_share, outcome.time_held, outcome.speedup_held)
    return [str(outcome.sessions), *map(percent, shares)]


def tool_cells(outcome: Outcome) -> list[str]:
    shares = (*outcome.time, *outcome.speedup, outcome.time_held)
    return [str(outcome.sessions), *map(percent, shares), f"{outcome.seconds_a_case:.2g} s"]


def rule_cells(replay: RuleOutcome) -> list[str]:
    rule = [str(replay.moments), percent(replay.within), f"{replay.apart_s:g} s", str(replay.at_least)]
    return [*rule, percent(replay.settled_share), f"{replay.mean_visits:.1f}", *map(percent, replay.time)]


CLAIMS: dict[str, Callable[[Sweep], Iterator[str]]] = {
    "README.md": readme,
    "docs/limits.md": limits,
    "docs/regression.md": regression,
    "docs/own-repository.md": own_repository,
    "docs/homework.md": homework,
    "docs/repeatability.md": repeatability,
    "docs/tolerances.md": tolerances,
    "docs/judge.md": judging,
    "docs/fleet.md": fleet,
}


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    return Sweep()


@pytest.mark.parametrize("page", PAGES)
def test_every_number_on_a_page_is_computed_or_is_no_measurement(page: str, sweep: Sweep) -> None:
    claims = CLAIMS[page](sweep) if page in CLAIMS else ()
    found = complaints(PAGES[page].read_text(encoding="utf-8"), claims, LISTED)
    assert not found, "\n".join(found)


def test_a_changed_table_names_the_stale_sentences(tmp_path: Path) -> None:
    folder = shutil.copytree(RESULTS / "reference", tmp_path / "reference")
    table = (folder / "cases.csv").read_text(encoding="utf-8")
    loop = next(line for line in table.splitlines() if ",row_loop,32,512,float64,normal,1," in line)
    cells = loop.split(",")
    columns = table.partition("\n")[0].split(",")
    for column in ("time_low_s", "time_s", "time_high_s"):
        place = columns.index(column)
        cells[place] = str(2 * float(cells[place]))
    (folder / "cases.csv").write_text(table.replace(loop, ",".join(cells)), encoding="utf-8")
    (found,) = complaints(PAGES["docs/limits.md"].read_text(encoding="utf-8"), limits(Sweep(folder)), LISTED)
    before, after = re.findall(r"It is ([\d.]+)× as fast as the batched `explicit_jacobian` at 32 × 512", found)
    assert float(before) == pytest.approx(2 * float(after), rel=0.01)


def test_a_measured_number_that_nothing_computes_is_named(sweep: Sweep) -> None:
    text = (
        PAGES["README.md"]
        .read_text(encoding="utf-8")
        .replace("## More", "It takes 97.3 ms, ten times as long.\n\n## More")
    )
    in_digits, in_words = complaints(text, readme(sweep), LISTED)
    assert in_digits.startswith("'97.3 ms' in ")
    assert in_words.startswith("'ten times' in ")


def test_what_is_listed_as_no_measurement_is_on_a_page() -> None:
    text = " ".join(" ".join(path.read_text(encoding="utf-8") for path in PAGES.values()).split())
    assert [pattern for pattern in LISTED if not re.search(pattern, text)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_image_leads_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)]+)\)", PAGES[page].read_text(encoding="utf-8"))
    for target in targets:
        path, _, heading = target.partition("#")
        linked = PAGES[page].parent / path if path else PAGES[page]
        assert linked.exists(), target
        if heading:
            assert heading in headings(linked), target


def headings(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_can_be_reached_from_the_readme() -> None:
    linked = re.findall(r"\]\((docs/[^)#]+)", PAGES["README.md"].read_text(encoding="utf-8"))
    assert set(linked) == set(PAGES) - {"README.md"}


def test_the_readmes_example_is_what_verify_says(softmax_bench: SoftmaxBench, tmp_path: Path) -> None:
    text = PAGES["README.md"].read_text(encoding="utf-8")
    code = text.partition("```python\n# homework.py\n")[2].partition("```")[0]
    shown = text.partition(" verify homework.py:backward\n")[2].partition("```")[0]
    (tmp_path / "homework.py").write_text(code, encoding="utf-8")
    said = softmax_bench("verify", "homework.py:backward").stdout
    assert shown.startswith("homework.py:backward  wrong")
    assert said.startswith(shown)
