"""The report as one HTML page that asks for nothing but itself, and as Markdown with the same facts."""

import base64
import functools
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bokeh
import itables
import jinja2
from markupsafe import Markup

from ..charts.style import made_with
from ..storage.results import CASES
from .answers import answers_section
from .content import Section
from .extrapolation import growth_section
from .interactive import CHARTS, Chart, chart_items, page_data
from .left_out import left_out_section
from .provenance import provenance_section
from .source import Source
from .studies import study_sections
from .takeaway import takeaway_section
from .weather import weather_section

TEMPLATES = Path(__file__).parent / "templates"
CHART_SCRIPT = Path(bokeh.__file__).parent / "server" / "static" / "js" / "bokeh.min.js"
TABLE_ASSETS = Path(itables.__file__).parent / "html"
MARKDOWN_MARKS = re.compile(r"([\\`*_\[\]|~])")


@dataclass(frozen=True)
class Page:
    """What the templates show: the sections in order, and what the interactive part needs."""

    title: str
    subtitle: str
    run_id: str
    opening: Sequence[Section]  # what stands above the charts and the table
    rest: Sequence[Section]
    charts: Sequence[Chart]
    data: dict[str, Any]
    items: dict[str, Any]
    table_csv: bytes
    footer: str

    @property
    def data_with_charts(self) -> dict[str, Any]:
        """The data with the charts that the script draws them in."""
        return {**self.data, "charts": self.items}


def page_of(source: Source, others: Sequence[Section] = ()) -> Page:
    """The page of a run; ``others`` are sections of what it is shown beside, which follow the table."""
    run = source.run
    return Page(
        title=f"The backward pass of softmax, measured: run {run.run_id}",
        subtitle=f"{made_with(run.machine, run.versions)} · {run.started[:16].replace('T', ' ')} UTC",
        run_id=run.run_id,
        opening=[answers_section(source), *takeaway_section(source), *growth_section(source)],
        rest=[
            *others,
            left_out_section(source),
            *weather_section(source),
            provenance_section(source),
            *study_sections(source.folder.parent),
        ],
        charts=CHARTS,
        data=page_data(source),
        items=chart_items(run),
        table_csv=(source.folder / CASES).read_bytes(),
        footer="Made by softmax-bench from the stored tables alone; every figure follows from them.",
    )


def to_html(page: Page) -> str:
    """The page as HTML."""
    assets = {
        "css": _asset(TEMPLATES / "report.css"),
        "script": _asset(TEMPLATES / "report.js"),
        "chart_script": _asset(CHART_SCRIPT),
        "table_css": _asset(TABLE_ASSETS / "dt_bundle.css"),
        "table_script": (TABLE_ASSETS / "dt_bundle.js").read_bytes(),
    }
    return _environment().get_template("report.html.jinja").render(page=page, assets=assets)


def to_markdown(page: Page) -> str:
    """The page's sections as Markdown."""
    text = _environment().get_template("report.md.jinja").render(page=page)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _asset(path: Path) -> Markup:
    """A style sheet or script of the package's own or of a library's, to stand in the page as it is."""
    return Markup(path.read_text(encoding="utf-8"))  # noqa: S704 - no part of it is data


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html.jinja"], default=False),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    # Bokeh reads definitions in their order.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "ensure_ascii": False, "separators": (",", ":")}
    environment.filters |= {"data_address": _data_address, "md": _markdown_text}
    return environment


def _data_address(content: bytes, media_type: str) -> str:
    """The content itself as an address."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def _markdown_text(text: str) -> str:
    """A text as Markdown shows it unchanged: no emphasis, no cells, no HTML, one line."""
    return MARKDOWN_MARKS.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))
