"""A run over two storages: `steps` is the page to start with, and each of the seven steps has a module of its name."""
