"""The run's frame as Parquet: every row and every derived column, with run.json in the file's metadata."""

import io
from pathlib import Path

import msgspec
import pandas as pd

from ...errors import UserError
from ...storage.files import replace_file
from ...storage.results import COLUMNS
from .exported import Exported

METADATA = b"softmax_bench.run"  # the key under which run.json stands
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet computes a text cell that begins so


def export_parquet(exported: Exported, path: Path) -> Path:
    """Write the frame as Parquet. Returns the path.

    Whole numbers are stored as such, missing as null.

    Raises:
        UserError: pyarrow is not installed, or the file cannot be written.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ModuleNotFoundError:
        raise UserError("parquet needs pyarrow, which is not installed: pip install 'softmax-bench[parquet]'") from None
    table = pa.Table.from_pandas(neutralised(_typed(exported.frame)), preserve_index=False)
    described = {**(table.schema.metadata or {}), METADATA: msgspec.json.encode(exported.run)}
    file = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata(described), file)
    return replace_file(path, file.getvalue())


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with columns of whole numbers as such, which NaN had made floating."""
    whole = [column for column, kind in COLUMNS.items() if kind not in (str, float)]
    return frame.astype(dict.fromkeys(whole, "Int64"))


def neutralised(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with an apostrophe before each text that a spreadsheet would take for a formula."""
    texts = [str(column) for column in frame if not pd.api.types.is_numeric_dtype(frame[column])]
    return frame.assign(**{column: frame[column].map(_neutralised) for column in texts})


def _neutralised(text: object) -> object:
    return f"'{text}" if isinstance(text, str) and text.startswith(FORMULA_STARTS) else text
