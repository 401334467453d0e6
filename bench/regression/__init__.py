"""The regression check: whether a change made an implementation slower, larger or wrong.

duet       two versions of a function, timed side by side in fresh processes
revisions  the versions at a revision and in the working tree
gate       the rule and its verdict on two versions
baseline   the verdict against a stored run
output     a verdict as text, JSON and JUnit
command    the commands gate and compare
quality    how often the verdict is right, and how often those of other gates are
"""
