"""The sweep: which cases are measured, in which process, at what cost, and what it shows meanwhile."""
