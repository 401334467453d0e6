"""An environment of asv that is the interpreter at hand: nothing is built or installed, both commits use its libraries.

asv loads this module as a plug-in, by the name in its configuration.
"""

import sys
from typing import Any

from asv.environment import Environment


class Interpreter(Environment):  # type: ignore[misc] # asv has no types
    """The running interpreter; a commit is 'installed' by being checked out into the environment's folder."""

    tool_name = "interpreter"

    def __init__(self, conf: Any, python: str, requirements: Any, tagged_env_vars: Any) -> None:
        # Two attributes that the base class's own beginning reads.
        self._python, self._requirements = python, {**requirements}
        super().__init__(conf, python, requirements, tagged_env_vars)

    @classmethod
    def matches(cls, python: str) -> bool:
        """Whether asv may choose this environment of itself: never, the configuration names it."""
        del python
        return False

    def _setup(self) -> None:
        """No environment to make."""

    def run(self, args: Any, **options: Any) -> Any:
        """The output of the interpreter run with arguments, as asv asks for it."""
        return self.run_executable(sys.executable, list(args), **options)
