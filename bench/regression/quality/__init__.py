"""How often the regression check is right: trials on identical code and on known slow-downs, also of other gates.

study            the conditions, their trials, and the stored table of them
usual_gates      pytest-benchmark and asv as gates, run on the cases of the check
usual_tools      how those two are run and what they stored is read
asv_interpreter  asv's plugin that runs benchmarks with the interpreter at hand
chart            the chart of the stored trials
command          the command gate-quality
"""
