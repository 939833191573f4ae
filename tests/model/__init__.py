"""An executable model of the protocol: what must hold when storages are restored, copied, cut off and collected.

Nothing here touches kvsync. A history of writes, runs, crashes, restores and copies is played on replicas that are a
few dictionaries each; every write of a run is one step, and a run may be cut between any two. Ghost state, which no
rule ever reads, knows what each value was made from, and says at the end what was lost. `parts.py` names the rules;
each of them can be switched off, to see what it is for.
"""
