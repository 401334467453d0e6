"""Tables on disk: a dataclass a row, CSV with a header, each row appended whole, read back with its types checked."""

import csv
import dataclasses
import errno
import fcntl
import functools
import io
import math
import os
import typing
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, TracebackType
from typing import Any, Generic, Self, TypeVar

import msgspec

from ..errors import BusyError, UserError
from .files import replace_file

RowType = TypeVar("RowType")


class Table(Generic[RowType]):
    """A table open for appending; one process at a time may hold it.

    A row is written in one piece and synced to the disk. On opening, a last line without its newline is cut off: the
    writing of that row was interrupted.

    Raises:
        UserError: the file cannot be opened.
        BusyError: another process holds it.
    """

    def __init__(self, path: Path, row_type: type[RowType]) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror})") from None
        try:
            self._begin(row_type)
        except BaseException:
            self.close()  # nobody else has the file, and it would stay held
            raise

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

    def _begin(self, row_type: type[RowType]) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._drop_torn_tail()
        except BlockingIOError:
            raise BusyError(f"{self.path}: another process is writing this table; wait for it or end it") from None
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from None
        if self.path.stat().st_size == 0:
            self._write(_csv_line(columns_of(row_type)))

    def _write(self, line: str) -> None:
        data = line.encode()
        before = os.fstat(self._file).st_size
        try:
            if os.write(self._file, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, before)  # what is stored stays whole: no part of the row
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from None

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
    """The columns of a table: the names and types of the row's fields, in their order, without bounds."""
    return typing.get_type_hints(row_type)


def _optional_columns(row_type: Any) -> set[str]:
    return {column.name for column in dataclasses.fields(row_type) if column.default is not dataclasses.MISSING}


def load_table(
    path: Path, row_type: type[RowType], hint: str, former: Collection[str] = ()
) -> Iterator[tuple[str, RowType]]:
    """The rows of a table, each with its place as 'file:line'; missing is NaN (numbers) or None (whole numbers).

    Each value is checked against its field's type, and the bounds that this states (see ``kinds``). A column whose
    field has a default may be missing: tables that were stored before it existed do not have it. The ``former``
    columns, which such tables may have, are passed over.

    Raises:
        UserError: the file is missing, foreign or damaged; the message names file, line and column.
    """
    text = _read_text(path, hint)
    columns = columns_of(row_type)
    cells_type = _cells_type(typing.cast("Hashable", row_type))
    lines = csv.reader(io.StringIO(text), strict=True)
    try:
        header = next(lines, [])
        _check_header(f"{path}:1", header, row_type, former)
        for values in lines:
            where = f"{path}:{lines.line_num}"
            if len(values) != len(header):
                raise UserError(f"{where}: {len(values)} values where the header has {len(header)} columns")
            named = {column: value for column, value in zip(header, values, strict=True) if column in columns}
            yield where, row_type(**_checked(where, named, cells_type))
    except csv.Error as error:
        raise UserError(f"{path}:{lines.line_num}: not a line of a table ({error})") from None


def _read_text(path: Path, hint: str) -> str:
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {hint}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text in UTF-8 (byte {error.start})") from None
    if text and not text.endswith("\n"):
        raise UserError(f"{path}:{text.count(chr(10)) + 1}: the last row is cut off; {hint}")
    return text


def _check_header(where: str, header: Sequence[str], row_type: type, former: Collection[str]) -> None:
    columns, optional = columns_of(row_type), _optional_columns(row_type)
    for column in columns:
        if column not in header and column not in optional:
            raise UserError(f"{where}: column {column!r} is missing")
    for column in header:
        if column not in columns and column not in former:
            raise UserError(f"{where}: column {column!r} is unknown")
        if header.count(column) > 1:
            raise UserError(f"{where}: column {column!r} is there {header.count(column)} times")


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
    if not isinstance(value, str):
        return repr(value)
    return " ".join("".join(letter if letter.isprintable() else " " for letter in value).split())


@functools.cache
def _cells_type(row_type: type) -> type[msgspec.Struct]:
    """The type of a line's values that are not empty. What may be empty has the missing value for its default."""
    fields: list[Any] = []
    for column, kind in typing.get_type_hints(row_type, include_extras=True).items():
        plain, optional = _number(kind)
        whole = _plain(plain) is int
        missing = "" if kind is str else None if whole else math.nan
        fields.append((column, plain) if whole and not optional else (column, plain, missing))
    return msgspec.defstruct(row_type.__name__, fields, kw_only=True)


def _checked(where: str, values: Mapping[str, str], cells_type: type[msgspec.Struct]) -> dict[str, Any]:
    """The values of a line by column, numbers as such."""
    for column, value in values.items():
        if not value.isprintable():
            raise UserError(f"{where}: column {column!r}: {value!r} is not one line of printable text")
    given = {column: value for column, value in values.items() if value != ""}
    try:
        cells = msgspec.convert(given, cells_type, strict=False)
    except msgspec.ValidationError as error:
        column = next(column for column in values if f"`$.{column}`" in str(error) or f"field `{column}`" in str(error))
        kind = typing.get_type_hints(cells_type, include_extras=True)[column]
        raise UserError(f"{where}: column {column!r}: {values[column]!r} is not {_in_words(kind)}") from None
    return {column: getattr(cells, column) for column in values}


def _number(kind: Any) -> tuple[Any, bool]:
    """A column's type without its None, and whether it has one."""
    parts = typing.get_args(kind)
    if NoneType not in parts:
        return kind, False
    return next(part for part in parts if part is not NoneType), True


def _plain(number: Any) -> Any:
    """The type without its bounds."""
    return typing.get_args(number)[0] if typing.get_args(number) else number


def _in_words(number: Any) -> str:
    """A type and its bounds, as in 'a whole number, 1 or more'."""
    words = ["a whole number" if _plain(number) is int else "a number"]
    for bounds in typing.get_args(number)[1:]:
        words += [] if bounds.gt is None else [f"more than {bounds.gt:g}"]
        words += [] if bounds.ge is None else [f"{bounds.ge:g} or more"]
        words += [] if bounds.le is None else [f"at most {bounds.le:.4g}"]
    return ", ".join(words)
