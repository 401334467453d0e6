"""Whether somebody's own softmax backward is right, what is wrong with it, and what it costs.

calling      how to call it: roles of parameters, conventions, the call
process      where it runs: in a process of its own, or in this one
judging      the trials, what is wrong with its answers, which known mistake it makes
verdict      all of that in one report: ``verify`` and ``assert_vjp``
cost         time and peak memory, and how they grow
competitor   the target as one more implementation in the sweep
command      ``softmax-bench verify``
"""
