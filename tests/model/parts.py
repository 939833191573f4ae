"""The parts of the rules, each of which can be switched off, and some that can be switched on."""

from __future__ import annotations

DESCRIBED = {
    # Points and branches
    "marks": "a point holds random bits; without, two lives may issue the same one",
    "proof": "a lesser point is an ancestor only if it is in the list; without, a lesser stamp is taken for one",
    "rename": "changes after the common point get a name of their own",
    "cap": "the vector goes back to the common point",
    "hash": "a branch's name follows from its entry; without, it is random",
    "union": "both lists of points are merged; without, the one of the greater side is taken",
    "peers": "points at which known replicas stand are kept",
    "gossip": "what peers tell of their peers is kept, too",
    "drop": "a branch's entry goes with the last change of its name",
    "same-name": "one change under two names gets the greater one on both sides",
    "fresh-id": "a replica whose own life is not proven takes a new id",
    "same-id": "one of two replicas with one id takes a new one",
    # Conflicts
    "content-order": "equal stamps are ordered by content; without, by name",
    "equal": "two deletes are no conflict",
    "digest": "equal vectors over different values are noticed",
    "copy-once": "a losing value is not copied over what somebody has made of its copy since",
    "branch-policy": "where a branch's name is in a conflict, the greater change wins whatever the policy",
    # Tombstones
    "floor": "what was collected is compared with what the other side has seen",
    "covered": "what the other side covers and does not hold was deleted there",
    "restamp": "what is in doubt and old is stamped anew",
    "merge-floor": "the floor is taken over from the other side",
    "branch-floor": "the floor of a branch moves with it",
    "old-tombstone": "a tombstone that the other side covers and does not hold is dropped",
    "tell": "what is in doubt is told",
    "acknowledged-marks": "an acknowledgement counts only if its point is in the list",
    "known": "peers that are known through others count",
    "replaced": "an id that was given up counts no more",
    "place": "a replica that is met strikes former ids in its place",
    "prune": "dead origins are forgotten once all who count are past them",
    "retain": "the points at which forgotten replicas stand are kept",
    # Crashes
    "adopt": "what a cut run applied is adopted; without, it is taken for local changes",
    "clock": "stamps of an intent go into the clock",
    "exception-proof": "an exception needs its point in the list; without, its stamp is enough",
    "least": "an exception carries the least point at or after it; without, the giver's entry",
    "fresh-id-for-exception": "an exception under the own id that cannot be proven makes a new id",
    "exceptions-cover": "what a side holds as an exception is not new to it",
    # Missing values
    "missing-names": "names of missing changes follow a branch",
    "unreconciled": "a missing change that was replaced unknown is remembered",
    "collected-conflict": "what replaced a delete unknown is a conflict though the delete was collected since",
    "unreconciled-names": "names of unreconciled changes follow a branch",
    "missing-tombstone": "a tombstone that could not be applied is not collected",
    "unreconciled-tombstone": "a tombstone that replaced a change unknown is not collected",
    "keep-held": "what is held instead of a missing value is kept when somebody replaces that who did not know it",
    "missing-restamp": "a value that is missing stays so under a fresh stamp",
    # Late writes
    "late": "intents of runs that may still write are remembered",
    "late-proof": "what a scan adopts from them is proven against the other side, too",
}
EXTRA = frozenset({"prune"})
"""What holds as well, and costs more than it is worth: pruning makes doubts."""

PARTS = frozenset(DESCRIBED) - EXTRA
