"""The kinds of numbers in stored files: types of fields, with the bounds that no true number leaves.

What is read is checked against them. Text is checked where it is read, too: a cell has no control characters.
"""

from typing import Annotated

from msgspec import Meta

LONGEST_S = 1e9  # thirty years
LARGEST_WHOLE = 1 << 60

Size = Annotated[int, Meta(ge=1, le=1 << 40)]
Count = Annotated[int, Meta(ge=0, le=LARGEST_WHOLE)]
Flag = Annotated[int, Meta(ge=0, le=1)]  # 1: yes
Bytes = Annotated[int, Meta(ge=0, le=LARGEST_WHOLE)]
Seconds = Annotated[float, Meta(gt=0.0, le=LONGEST_S)]
Elapsed = Annotated[float, Meta(ge=0.0, le=LONGEST_S)]  # seconds since something began
UnixTime = Annotated[float, Meta(ge=0.0, le=1e11)]
Factor = Annotated[float, Meta(gt=0.0, le=1e9)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Error = Annotated[float, Meta(ge=0.0)]  # infinite where a result is
Rate = Annotated[float, Meta(gt=0.0, le=1e18)]  # bytes a second
