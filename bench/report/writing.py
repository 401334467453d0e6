"""The report of one or several stored runs, written whole or not at all."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..storage.files import replace_file
from .content import Section
from .differences import short_names
from .own import outcome_section, own_sections
from .page import page_of, to_html, to_markdown
from .several import several_sections
from .source import Source

RENDERERS = {"html": to_html, "markdown": to_markdown}


def write_report(folders: Sequence[Path], files: Mapping[str, Path], outcomes: Sequence[Path] = ()) -> list[Path]:
    """Write the report of the last run, beside those before it, to a file for each format. Returns the files.

    Raises:
        UserError: a run or an outcome cannot be read, or a file cannot be written.
    """
    sources = [Source.load(folder) for folder in folders]
    page = page_of(sources[-1], list(_others(sources, folders, outcomes)))
    return [replace_file(path, RENDERERS[kind](page)) for kind, path in files.items()]


def _others(sources: Sequence[Source], folders: Sequence[Path], outcomes: Sequence[Path]) -> Iterator[Section]:
    """What is shown beside the run: the reader's own functions, outcomes of other commands, other runs."""
    yield from own_sections(sources[-1])
    for number, path in enumerate(outcomes, start=1):
        yield outcome_section(path, f"outcome-{number}")
    if len(sources) > 1:
        named = zip(short_names(folders), sources, strict=True)
        yield from several_sections([source.stored(name) for name, source in named])
