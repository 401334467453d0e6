"""One sweep on many machines, on Dask: every machine measures all cases, or the cases are shared out.

Dask's ``distributed`` schedules, transports and runs again; this package says what a task is, which machine may have
it, and keeps the run's one table.

On a worker: ``worker`` (what Dask calls) starts ``measuring`` (a process that measures one share of cases with the
sweep's own `OpenRun`, under the machine's lock, between two looks at ``calibration``).
At the driver: ``cluster`` (where the workers come from), ``driver`` (which share is where), ``store`` (the tables).
Both: ``shares`` (what a share is), ``machines`` (what a machine is), ``messages`` (what they send each other).
Afterwards: ``merging`` (runs made apart). ``simulation``, ``scale`` and ``chart``: how far all this goes.
"""
