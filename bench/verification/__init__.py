"""Somebody's own softmax backward: whether it is right, what is wrong with it, what it costs.

trials conventions roles calling    what is asked of it, and how it wants to be called
isolation worker subject failures   where it is called, and how that may end
diagnosis invariants asking worked  which known mistake it makes, and how that is told
costing competitor                  what it costs, alone and beside the others in the sweep
verdict command                     all of that in one report, from Python and at the command line
"""
