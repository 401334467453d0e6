import dataclasses
import itertools
from pathlib import Path

import pytest
from PIL import Image

from bench.charts import CHARTS, LABEL_GAP, draw_run, slices_of, spread_apart
from bench.errors import UserError
from bench.results import Row, Run, load_rows, load_run, open_rows, to_frame, write_run

NAMES = ("explicit_jacobian", "vectorized")
RUN = Run(
    run_id="r1",
    started="2026-01-01T00:00:00+00:00",
    seed=42,
    selection={},
    options={},
    machine={"cpu": "a processor", "cores": 2, "memory_bytes": 25 * 10**9, "system": "Linux x86_64"},
    versions={"python": "3.11", "numpy": "2.4"},
    code={},
    implementations=[{"operation": "softmax", "name": name} for name in NAMES],
)


def row_of(name: str, batch: int, features: int, *, logits: str = "normal", status: str = "measured") -> Row:
    peak = batch * features * (features if name == "explicit_jacobian" else 1) * 8
    time_s = peak * 1e-9
    row = Row("r1", "softmax", name, batch, features, "float64", logits, 1, status, predicted_peak_bytes=peak)
    if status != "measured":
        return row
    return dataclasses.replace(
        row, time_q1_s=0.9 * time_s, time_median_s=time_s, time_q3_s=1.2 * time_s, peak_bytes=peak
    )


def store(folder: Path, rows: list[Row]) -> Path:
    write_run(RUN, folder)
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


def test_every_chart_is_drawn_as_png_and_svg_under_its_own_name(stored: Path, tmp_path: Path) -> None:
    drawn = list(draw_run(stored, tmp_path / "plots"))
    assert {path.name for path in drawn} == {f"{chart.__name__}.{end}" for chart in CHARTS for end in ("png", "svg")}
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {path.name for path in drawn}
    for path in drawn:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.width > 800
                assert len(image.convert("RGB").getcolors(1 << 24) or []) > 10


def test_a_chart_of_the_same_table_is_the_same_file(stored: Path, tmp_path: Path) -> None:
    once = {path.name: path.read_bytes() for path in draw_run(stored, tmp_path / "once")}
    again = {path.name: path.read_bytes() for path in draw_run(stored, tmp_path / "again")}
    assert once == again


def test_the_caption_names_machine_software_and_run(stored: Path) -> None:
    first, *_ = slices_of(to_frame(load_rows(stored)), load_run(stored))
    for part in ("a processor", "2 cores", "25.0 GB", "NumPy 2.4", "run r1", "normal logits", "1 thread"):
        assert part in first.caption


def test_an_implementation_has_one_style_in_every_slice(stored: Path) -> None:
    first, second = slices_of(to_frame(load_rows(stored)), load_run(stored))
    assert first.key[2] == "normal"
    assert second.key[2] == "uniform"
    for name in NAMES:
        assert first.style(name) == second.style(name)
    assert first.style("vectorized") != first.style("explicit_jacobian")


def test_more_implementations_than_colours_still_differ(stored: Path) -> None:
    run = dataclasses.replace(
        RUN, implementations=[{"operation": "softmax", "name": f"number_{place}"} for place in range(20)]
    )
    data, *_ = slices_of(to_frame(load_rows(stored)), run)
    assert len({data.style(f"number_{place}") for place in range(20)}) == 20


def test_ratios_show_in_the_heat_map(stored: Path) -> None:
    first, *_ = slices_of(to_frame(load_rows(stored)), load_run(stored))
    texts = {text.get_text() for panel in CHARTS[5](first).axes for text in panel.texts}
    assert {"16.0×", "64.0×", "~10.0k×"} <= texts


def test_nothing_measured_is_told(tmp_path: Path) -> None:
    folder = store(tmp_path / "r1", [row_of("vectorized", 1, 16, status="skipped")])
    with pytest.raises(UserError, match="nothing to draw"):
        list(draw_run(folder, tmp_path / "plots"))


def test_a_folder_that_cannot_be_written_is_told(stored: Path, tmp_path: Path) -> None:
    (tmp_path / "plots").write_text("in the way", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be written"):
        list(draw_run(stored, tmp_path / "plots"))


@pytest.mark.parametrize("wanted", [[0.5], [0.5, 0.5, 0.5], [0.1, 0.11, 0.5, 0.51], [0.0, 0.01, 0.99, 1.0]])
def test_names_keep_their_order_and_do_not_overlap(wanted: list[float]) -> None:
    heights = spread_apart(wanted)
    assert all(above - below > LABEL_GAP * 0.999 for below, above in itertools.pairwise(heights))
    assert heights[0] >= 0.0
    assert heights[-1] <= 1.0
