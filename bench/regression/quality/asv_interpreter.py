"""An asv environment that is the running interpreter: asv builds and installs nothing, both commits use its libraries.

asv loads this module as a plugin, by the name in its configuration.
"""

import sys
from typing import Any

from asv.environment import Environment


class Interpreter(Environment):  # type: ignore[misc] # asv has no types
    """The running interpreter; asv 'installs' a commit by checking it out into the environment's folder."""

    tool_name = "interpreter"

    def __init__(self, conf: Any, python: str, requirements: Any, tagged_env_vars: Any) -> None:
        # The base class reads these two attributes in its own __init__.
        self._python, self._requirements = python, {**requirements}
        super().__init__(conf, python, requirements, tagged_env_vars)

    @classmethod
    def matches(cls, python: str) -> bool:
        """Whether asv may choose this environment by itself. Never: the configuration names it."""
        del python
        return False

    def _setup(self) -> None:
        """Nothing: there is no environment to make."""

    def run(self, args: Any, **options: Any) -> Any:
        """The output of the interpreter, run with these arguments; asv calls this."""
        return self.run_executable(sys.executable, list(args), **options)
