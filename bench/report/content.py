"""What a report says, whatever its format: sections of answers, sentences, tables and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """What a reader asks, and the run's answer in sentences."""

    question: str
    text: str


@dataclass(frozen=True)
class Table:
    """A small table of texts: what it is, the headings of its columns, and its rows; the first cell names the row."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """An image: its bytes by colour scheme, their type, and what a reader who does not see it must know.

    ``dark`` is None where the image is shown on a light plate in a dark page as well.
    """

    light: bytes
    media_type: str
    finding: str
    dark: bytes | None = None


@dataclass(frozen=True)
class Section:
    """A part of the report under one heading.

    ``folded`` are tables that a reader opens under their summary, ``fold``: counted, and not in the way.
    """

    key: str  # of its address in the page
    title: str
    answers: Sequence[Answer] = ()
    sentences: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    commands: Sequence[str] = ()  # to be typed at a terminal
    fold: str = ""
    folded: Sequence[Table] = ()
