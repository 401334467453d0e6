"""Whether two runs give the same table: the sweep repeated in fresh processes, and the tools that people use beside it.

shared_cases  the cases that every tool measures
loads         what else the machine does meanwhile
tools         one session of each tool: fresh processes that measure their cases once
rules         other rules of agreement, replayed on the visits of whole sessions
study         the plan, the stored tables of sessions and rules, what comes next
outcomes      what two sessions of a tool differ by, and how often a stated interval held
chart         the charts of the outcomes
command       the command repeatability
"""
