"""The regression check: whether a change made an implementation slower, larger or wrong.

duet revisions       two versions timed side by side in fresh processes; where the versions come from
gate baseline        the verdict against a revision, and against a stored run
output command       how it is told, and the commands gate, compare and gate-quality
quality quality_chart   how often the verdict is right
"""
