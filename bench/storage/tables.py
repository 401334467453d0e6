"""Tables on disk: a dataclass a row, CSV with a header, each row appended whole, read back with its types checked."""

import csv
import dataclasses
import fcntl
import io
import math
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ..errors import UserError
from .files import replace_file

RowType = TypeVar("RowType")


class Table(Generic[RowType]):
    """A table open for appending; one process at a time may hold it.

    A row is written in one piece and synced to the disk. On opening, a last line without its newline is cut off: the
    writing of that row was interrupted.

    Raises:
        UserError: the file cannot be opened, or another process holds it.
    """

    def __init__(self, path: Path, row_type: type[RowType]) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{path}: another process is writing this table; wait for it or end it") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from None
        self._drop_torn_tail()
        if path.stat().st_size == 0:
            self._write(_csv_line(columns_of(row_type)))

    def append(self, *rows: RowType) -> None:
        """Append one or more rows, in one piece; they are on the disk when this returns.

        Raises:
            UserError: they cannot be written.
        """
        self._write(_lines(rows))

    def close(self) -> None:
        """Close the file and let others hold it."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: str) -> None:
        data = line.encode()
        try:
            written = os.write(self._file, data)
            os.fsync(self._file)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from None
        if written != len(data):
            raise UserError(f"{self.path}: cannot be written (the disk is full)")

    def _drop_torn_tail(self) -> None:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self.path, whole)


def write_table(path: Path, rows: Sequence[Any]) -> Path:
    """Store a table of one or more rows in place of the one that is there, whole or not at all. Returns the path.

    Raises:
        UserError: it cannot be written.
    """
    return replace_file(path, _csv_line(columns_of(type(rows[0]))) + _lines(rows))


def columns_of(row_type: type) -> dict[str, Any]:
    """The columns of a table: the names and types of the row's fields, in their order."""
    return {column.name: column.type for column in dataclasses.fields(row_type)}


def _optional_columns(row_type: Any) -> set[str]:
    return {column.name for column in dataclasses.fields(row_type) if column.default is not dataclasses.MISSING}


def load_table(
    path: Path, row_type: type[RowType], hint: str, former: Collection[str] = ()
) -> Iterator[tuple[str, RowType]]:
    """The rows of a table, each with its place as 'file:line'; missing is NaN (numbers) or None (whole numbers).

    A column whose field has a default may be missing: tables that were stored before it existed do not have it. The
    ``former`` columns, which such tables may have, are passed over.

    Raises:
        UserError: the file is missing, foreign or damaged; the message names file, line and column.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {hint}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text in UTF-8 (byte {error.start})") from None
    if text and not text.endswith("\n"):
        raise UserError(f"{path}:{text.count(chr(10)) + 1}: the last row is cut off; {hint}")
    columns, optional = columns_of(row_type), _optional_columns(row_type)
    lines = csv.reader(io.StringIO(text))
    header = next(lines, [])
    for column in columns:
        if column not in header and column not in optional:
            raise UserError(f"{path}:1: column {column!r} is missing")
    for column in header:
        if column not in columns and column not in former:
            raise UserError(f"{path}:1: column {column!r} is unknown")
    for values in lines:
        where = f"{path}:{lines.line_num}"
        if len(values) != len(header):
            raise UserError(f"{where}: {len(values)} values where the header has {len(header)} columns")
        named = [(column, value) for column, value in zip(header, values, strict=True) if column in columns]
        yield where, row_type(**{column: _parse(where, column, columns[column], value) for column, value in named})


def _lines(rows: Sequence[Any]) -> str:
    columns = columns_of(type(rows[0]))
    return "".join(_csv_line(_stored(getattr(row, column)) for column in columns) for row in rows)


def _csv_line(values: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _stored(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return " ".join(value.split()) if isinstance(value, str) else repr(value)


def _parse(where: str, column: str, kind: Any, value: str) -> Any:
    if kind is str:
        return value
    if value == "" and kind is not int:
        return math.nan if kind is float else None
    try:
        return float(value) if kind is float else _natural(value)
    except ValueError:
        expected = "a number" if kind is float else "a whole number, 0 or more"
        raise UserError(f"{where}: column {column!r}: {value!r} is not {expected}") from None


def _natural(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(text)
    return int(text)
