"""The audit of a storage: whether its index is intact, and its values are what the log says; and the repair of both."""
