"""The instruments: the clock, the memory profiler, the machine and how fast its memory streams."""
