"""Names the sweep's pytest plugin; nothing else."""

pytest_plugins = ["softmax_bench.sweep.plugin"]
