"""The regression check: whether a change made an implementation slower, larger or wrong.

duel       what is timed against what: sides, duels, the task of a process
duet       two versions of an implementation, timed side by side in one process
referee    two functions of users, timed in turns, each in a process of its own
workers    tasks in fresh processes
revisions  a repository at a revision and as it is now
gate       the rule and its verdict on two versions
targets    users' functions as the sides of duels, verified first
named      the suite's implementations where they meet a user's function
comparison two functions against each other
repository users' functions against a revision of their repository
baseline   the verdict against a stored run
output     a verdict as text, JSON and JUnit
command    the commands gate and compare
quality    how often the verdict is right, and how often those of other gates are
"""
