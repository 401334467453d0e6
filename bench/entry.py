"""The console script: the command line, or one line where the suite itself does not import."""

import sys
import traceback


def main() -> None:
    """Run softmax-bench.

    A suite that does not import, as while an implementation is being edited, ends with 2: Python's own 1 would read as
    a regression.
    """
    try:
        from .cli import main as command  # noqa: PLC0415 - may fail, and that is told below
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        print(
            f"softmax-bench: does not import: {type(error).__name__}: {error} ({place.filename}:{place.lineno})",
            file=sys.stderr,
        )
        sys.exit(2)
    command()


if __name__ == "__main__":
    main()
