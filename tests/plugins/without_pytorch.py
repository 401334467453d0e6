"""A pytest plugin for sweeps that need no PyTorch: with it in the process, memray takes three times as long."""

import sys

sys.modules["torch"] = None  # type: ignore[assignment]  # Python's way to say that it does not import
