"""Where a target runs: in a process of its own, which may hang, crash or print, and how that is reported."""
