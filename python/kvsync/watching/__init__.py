"""Watch two storages: make them equal as soon as a value changes, and go on until told to stop.

Hints say when a run is due (`hints`), a schedule turns them into times (`schedule`), and `watch` makes the runs, which
are those of `kvsync.sync` with a scan. docs/watch.md says why each is as it is.
"""
