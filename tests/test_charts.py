import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from softmax_bench.charts.by_shape import (
    Slice,
    memory_by_features,
    memory_ratio_heatmap,
    slices_of,
    speedup_heatmap,
    time_by_features,
)
from softmax_bench.charts.drawing import BY_SHAPE, OVERVIEWS, draw_run
from softmax_bench.charts.overviews import Overview, bars, overviews_of, roofline, subnormals
from softmax_bench.charts.style import COLOURS, LABEL_GAP, PALE, charts_sentence, spread_apart, write_figure
from softmax_bench.errors import NothingToDrawError, UserError
from softmax_bench.instruments.bandwidth import CeilingPoint
from softmax_bench.storage.frames import to_frame
from softmax_bench.storage.results import Row, Run, RunOptions, load_rows, load_run, open_rows, write_run

NAMES = ("explicit_jacobian", "vectorized")
RUN = Run(
    run_id="r1",
    started="2026-01-01T00:00:00+00:00",
    seed=42,
    selection={},
    options=RunOptions(max_call_s=2.0, max_bytes=None, benchmark={}, stream_bytes_per_s=1e10),
    machine={"cpu": "a processor", "cores": 2, "memory_bytes": 25 * 10**9, "system": "Linux x86_64"},
    versions={"python": "3.11", "numpy": "2.4"},
    code={},
    implementations=[{"operation": "softmax", "name": name} for name in NAMES],
)


LIBRARIES = {"fused": "numba", "torch_kernel": "torch"}
RUN_OF_LIBRARIES = dataclasses.replace(
    RUN,
    machine={**RUN.machine, "l1_bytes": 49152, "l2_bytes": 2097152, "l3_bytes": 10**12},
    versions={**RUN.versions, "numba": "0.68", "torch": "2.13"},
    implementations=[
        *({"operation": "softmax", "name": name, "library": "numpy"} for name in NAMES),
        *({"operation": "softmax", "name": name, "library": library} for name, library in LIBRARIES.items()),
    ],
    ceiling=[
        CeilingPoint(threads, working_set_bytes, bytes_per_s=threads * 2e10)
        for threads in (1, 2)
        for working_set_bytes in (10**3, 10**9)
    ],
)


def row_of(
    name: str,
    batch: int,
    features: int,
    *,
    logits: str = "normal",
    status: str = "measured",
    dtype: str = "float64",
    threads: int = 1,
) -> Row:
    peak = batch * features * (features if name == "explicit_jacobian" else 1) * 8
    time_s = peak * 1e-9 * (10 if logits == "peaked" and name in LIBRARIES else 1) / threads
    row = Row("r1", "softmax", name, batch, features, dtype, logits, threads, status, predicted_peak_bytes=peak)
    if status != "measured":
        return row
    return dataclasses.replace(
        row, time_s=time_s, time_low_s=0.98 * time_s, time_high_s=1.03 * time_s, settled=1, peak_bytes=peak
    )


def store(folder: Path, rows: list[Row], run: Run = RUN) -> Path:
    write_run(run, folder)
    with open_rows(folder) as table:
        for row in rows:
            table.append(row)
    return folder


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    rows = [row_of(name, batch, features) for name in NAMES for batch in (1, 8) for features in (16, 64)]
    rows += [row_of("explicit_jacobian", 1, 9999, status="skipped"), row_of("vectorized", 1, 9999)]
    rows += [row_of(name, 32, 512, logits="uniform") for name in NAMES]
    return store(tmp_path / "results" / "r1", rows)


@pytest.fixture
def with_libraries(tmp_path: Path) -> Path:
    shapes = [(batch, features) for batch in (1, 64) for features in (32, 512)]
    rows = [row_of(name, *shape) for shape in shapes for name in (*NAMES, *LIBRARIES)]
    rows += [row_of("torch_kernel", *shapes[-1], threads=2)]
    rows += [row_of("vectorized", 128, 1024), row_of("fused", 128, 1024)]
    rows += [row_of(name, 32, 512, logits="uniform") for name in (*NAMES, *LIBRARIES)]
    rows += [
        row_of(name, 32, 512, logits=logits, dtype="float32")
        for name in (*NAMES, *LIBRARIES)
        for logits in ("normal", "peaked")
    ]
    return store(tmp_path / "results" / "r1", rows, RUN_OF_LIBRARIES)


def slices_in(folder: Path) -> list[Slice]:
    return slices_of(to_frame(load_rows(folder)), load_run(folder))


def texts_of(figure: Figure, tmp_path: Path) -> str:
    with mpl.rc_context({"svg.fonttype": "none"}):
        return write_figure(figure, tmp_path / "drawn.svg").read_text(encoding="utf-8")


def overview_of(folder: Path, dtype: str = "float64") -> Overview:
    run = load_run(folder)
    (found,) = [data for data in overviews_of(to_frame(load_rows(folder), run.ceiling), run) if data.dtype == dtype]
    return found


@pytest.mark.slow
def test_every_chart_is_drawn_as_png_and_svg_under_its_own_name(stored: Path, tmp_path: Path) -> None:
    drawn = list(draw_run(stored, tmp_path / "plots"))
    names = [chart.__name__ for chart in (*BY_SHAPE, bars)]  # the run has no ceiling and no peaked logits
    assert {path.name for path in drawn} == {f"{name}.{end}" for name in names for end in ("png", "svg")}
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {path.name for path in drawn}
    for path in drawn:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.width > 800
                assert len(image.convert("RGB").getcolors(1 << 24) or []) > 10


@pytest.mark.slow
def test_libraries_have_files_of_their_own(with_libraries: Path, tmp_path: Path) -> None:
    drawn = {path.name for path in draw_run(with_libraries, tmp_path / "plots")}
    names = {f"{chart.__name__}{suffix}" for chart in BY_SHAPE for suffix in ("", "-libraries")}
    names |= {overview.__name__ for overview in OVERVIEWS}
    assert drawn == {f"{name}.{ending}" for name in names for ending in ("png", "svg")}


def test_a_library_that_was_not_installed_adds_no_charts(stored: Path) -> None:
    write_run(RUN_OF_LIBRARIES, stored)
    before = slices_in(stored)
    with open_rows(stored) as table:
        for features in (16, 64):
            row = row_of("fused", 8, features, status="skipped")
            table.append(dataclasses.replace(row, reason="not installed: numba"))
    after = slices_in(stored)
    assert [(data.key, data.kind) for data in after] == [(data.key, data.kind) for data in before]
    for old, new in zip(before, after, strict=True):
        pd.testing.assert_frame_equal(new.rows, old.rows)


def test_charts_of_libraries_show_the_reference_as_well(with_libraries: Path) -> None:
    own, libraries, *others = slices_in(with_libraries)
    assert own.implementations == list(NAMES)
    assert libraries.implementations == ["vectorized", *LIBRARIES]
    assert "NumPy 2.4, Numba 0.68, PyTorch 2.13 ·" in libraries.caption
    assert "Numba" not in own.caption
    (both,) = [data for data in others if data.key[3] == 2]
    assert [both.label(name) for name in both.implementations] == ["vectorized, 1 thread", "torch_kernel"]


def test_the_roofline_names_ceiling_caches_and_what_it_does_not_show(with_libraries: Path, tmp_path: Path) -> None:
    text = texts_of(roofline(overview_of(with_libraries)), tmp_path)
    for shown in ("measured ceiling", ">L1<", ">49.2 kB<", ">L2<", ">1 thread<", ">2 threads<", ">torch_kernel<"):
        assert shown in text
    assert ">L3<" not in text  # far beyond all data
    assert "Not shown, as always below 1 % of the ceiling: explicit_jacobian" in text
    assert ">explicit_jacobian<" not in text


def test_a_roofline_needs_a_ceiling_and_three_working_sets(with_libraries: Path) -> None:
    data = overview_of(with_libraries)
    for rows in (data.rows.assign(ceiling_share=float("nan")), data.rows[data.rows["features"] == 32]):
        with pytest.raises(NothingToDrawError, match="3 working sets with normal logits and the measured ceiling"):
            roofline(dataclasses.replace(data, rows=rows))


def test_bars_show_time_and_speedup_and_what_was_not_measured(with_libraries: Path, tmp_path: Path) -> None:
    figure = bars(overview_of(with_libraries))
    article, largest = figure.axes
    assert "32 × 512, uniform" in article.get_title()
    assert "128 × 1024, normal" in largest.get_title()
    assert {text.get_text() for text in article.texts} == {"131 µs  1.00×", "67.1 ms  512× slower"}
    assert largest.get_xlabel() == "not measured here: explicit_jacobian, torch_kernel"
    assert [label.get_text() for label in article.get_yticklabels()][-1] == "explicit_jacobian"
    text = texts_of(figure, tmp_path)
    assert all(f">{library}<" in text for library in ("NumPy", "Numba", "PyTorch"))


def test_bars_show_one_thread_and_all_side_by_side(with_libraries: Path, tmp_path: Path) -> None:
    rows = [*load_rows(with_libraries), row_of("torch_kernel", 32, 512, logits="uniform", threads=2)]
    figure = bars(overview_of(store(tmp_path / "r2", rows, RUN_OF_LIBRARIES)))
    assert {"131 µs  1.00×", "65.5 µs  2.00×"} <= {text.get_text() for text in figure.axes[0].texts}
    assert {"1 thread", "2 threads"} <= {text.get_text() for text in figure.legends[0].get_texts()}


def test_subnormals_show_the_ratio_the_largest_first(with_libraries: Path) -> None:
    (panel,) = subnormals(overview_of(with_libraries, "float32")).axes
    assert panel.get_title() == "32 × 512"
    assert {"131 µs", "1.31 ms  10.0×", "131 µs  1.00×"} <= {text.get_text() for text in panel.texts}
    assert {label.get_text() for label in panel.get_yticklabels()[:2]} == set(LIBRARIES)


@pytest.mark.parametrize("chart", [bars, subnormals])
def test_what_was_not_measured_is_not_drawn(with_libraries: Path, chart: Callable[[Overview], Figure]) -> None:
    other = overview_of(with_libraries, "float32" if chart is bars else "float64")
    for data in (other, dataclasses.replace(other, rows=other.rows[other.rows["status"] == "skipped"])):
        with pytest.raises(NothingToDrawError):
            chart(data)


@pytest.mark.slow
def test_a_chart_of_the_same_table_is_the_same_file(stored: Path, tmp_path: Path) -> None:
    once = {path.name: path.read_bytes() for path in draw_run(stored, tmp_path / "once")}
    again = {path.name: path.read_bytes() for path in draw_run(stored, tmp_path / "again")}
    assert once == again


def test_the_caption_names_machine_software_and_run(stored: Path) -> None:
    first, *_ = slices_in(stored)
    for part in ("a processor", "2 cores", "25.0 GB", "NumPy 2.4", "run r1", "normal logits", "1 thread"):
        assert part in first.caption


def test_an_implementation_has_one_style_in_every_slice(stored: Path) -> None:
    first, second = slices_in(stored)
    assert first.key[2] == "normal"
    assert second.key[2] == "uniform"
    for name in NAMES:
        assert first.styles[name] == second.styles[name]
    assert first.styles["vectorized"] != first.styles["explicit_jacobian"]


OWN = "homework.py:backward"


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A run of a user's own and of twelve others; the further down the slower."""
    names = [*NAMES, *(f"number_{place}" for place in range(10))]
    run = dataclasses.replace(RUN, implementations=[{"operation": "softmax", "name": name} for name in [*names, OWN]])
    rows = [
        dataclasses.replace(row, time_s=row.time_s * (2 + place), time_low_s=row.time_s, time_high_s=100 * row.time_s)
        for place, name in enumerate([*names, OWN])
        for features in (16, 64)
        for row in [row_of(name, 8, features)]
    ]
    return store(tmp_path / "results" / "r1", rows, run)


def test_eight_lines_have_colours_of_their_own_and_the_rest_are_pale(crowded: Path, tmp_path: Path) -> None:
    (data,) = slices_in(crowded)
    coloured = [name for name, style in data.styles.items() if style != PALE]
    assert set(coloured) == {OWN, *NAMES, *(f"number_{place}" for place in range(5))}
    assert len({data.styles[name].colour for name in coloured}) == len(COLOURS) == len(coloured)
    for chart in (time_by_features, memory_by_features):
        text = texts_of(chart(data), tmp_path)
        assert "Pale: number_5, number_6, number_7, number_8, number_9." in text
        assert "In colour: your own, then" in text
        assert f">{OWN}<" in text
        assert ">number_4<" in text
        assert ">number_5<" not in text
    assert data.styles[OWN].width > 1.5 * data.styles["vectorized"].width


def test_a_pale_line_has_a_colour_on_demand(crowded: Path, tmp_path: Path) -> None:
    frame, run = to_frame(load_rows(crowded)), load_run(crowded)
    (data,) = slices_of(frame, run, ("number_9",))
    assert data.styles["number_9"] != PALE
    assert data.styles["number_4"] == PALE
    with pytest.raises(UserError, match="--show nothing: not in this run; there is explicit_jacobian"):
        list(draw_run(crowded, tmp_path / "plots", ("nothing",)))


def test_the_fastest_of_each_library_has_a_colour(reference_run: Path) -> None:
    data = next(data for data in slices_in(reference_run) if data.kind)
    libraries = {spec["name"]: spec["library"] for spec in data.run.implementations}
    coloured = [name for name, style in data.styles.items() if style != PALE]
    assert len(coloured) == len({data.styles[name].colour for name in coloured}) == len(COLOURS)
    assert {libraries[name] for name in coloured} == {libraries[name] for name in data.implementations}


def test_a_slow_down_reads_as_one(crowded: Path) -> None:
    (data,) = slices_of(
        to_frame(
            [
                *load_rows(crowded),
                *(row_of("explicit_jacobian", 1, n) for n in (16, 64)),
                *(dataclasses.replace(row_of("vectorized", 1, n), time_s=1.0) for n in (16, 64)),
            ]
        ),
        RUN,
    )
    texts = {text.get_text() for panel in speedup_heatmap(data).axes for text in panel.texts}
    assert any("× slower" in text for text in texts)
    assert not any(text.startswith("0.") for text in texts)


def test_ratios_show_in_the_heat_map(stored: Path) -> None:
    first, *_ = slices_in(stored)
    texts = {text.get_text() for panel in memory_ratio_heatmap(first).axes for text in panel.texts}
    assert {"16.0×", "64.0×", "~10.0k×"} <= texts


def test_a_run_without_measured_cases_is_reported(tmp_path: Path) -> None:
    folder = store(tmp_path / "r1", [row_of("vectorized", 1, 16, status="skipped")])
    with pytest.raises(UserError, match="nothing to draw"):
        list(draw_run(folder, tmp_path / "plots"))


def test_a_folder_that_cannot_be_written_is_reported(stored: Path, tmp_path: Path) -> None:
    (tmp_path / "plots").write_text("in the way", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be written"):
        list(draw_run(stored, tmp_path / "plots"))


@pytest.mark.parametrize("ends", [[0.5], [0.5, 0.5, 0.5], [0.1, 0.11, 0.5, 0.51], [0.0, 0.01, 0.99, 1.0]])
def test_names_keep_their_order_and_do_not_overlap(ends: list[float]) -> None:
    heights = spread_apart(ends)
    assert all(above - below > LABEL_GAP * 0.999 for below, above in itertools.pairwise(heights))
    assert heights[0] >= 0.0
    assert heights[-1] <= 1.0


def test_each_chart_is_named_once_with_a_star_for_further_slices() -> None:
    names = ["time_by_features", "time_by_features-libraries", "roofline-float32", "bars"]
    files = (Path(f"plots/{name}.{ending}") for name in names for ending in ("png", "svg"))
    assert charts_sentence(files) == "charts in plots: time_by_features*, roofline*, bars (png, svg)"
