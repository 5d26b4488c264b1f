"""Replay: samplers and schedulers are compared on a finished study, in simulated time.

`recording` makes the table, `table` is its form and file, `choosers` says how samplers choose among
its rows, `simulation` runs one study on it, `comparison` many with statistics, `fidelity` says how
well rungs foretell the end, and `plot` draws. Time is that of the trials; what a sampler itself
takes does not count.
"""
