"""The pytest plugin of the installed package, which has the fixture ``assert_vjp``. Its entry point is in `pytest11`.

Nothing of the suite is imported until a test uses the fixture.
"""

from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def assert_vjp() -> Callable[..., None]:
    """`softmax_bench.assert_vjp`: fails with the mistake's name unless a backward of softmax is right."""
    from softmax_bench import assert_vjp as check  # noqa: PLC0415 - see above

    return check
