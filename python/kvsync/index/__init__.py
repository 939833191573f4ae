"""The index inside a storage: manifest, segments, and how a replica's log grows."""
