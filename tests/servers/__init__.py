"""Real servers for the tests: one module a server, all on free loopback ports, killed and started again at will."""
