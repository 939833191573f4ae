"""The link to a Redis Cluster: each command goes to the server that holds its slot.

The client library's own pipeline for clusters repeats commands after a lost connection, even conditional ones. So
commands are grouped by server here. Only what a server did not execute, because the slot has moved, is sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvsync.errors import StorageError
from kvsync.storages.extras import client as import_client
from kvsync.storages.redis.errors import ErrorTexts
from kvsync.storages.redis.link import Opened, never_again
from kvsync.storages.redis.tls import hasten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kvsync.storages.redis.link import Command
    from kvsync.storages.redis.url import RedisUrl

__all__ = ["ClusterLink"]

SLOTS = 16_384


class ClusterLink:
    """The link to the servers of a cluster."""

    def __init__(self, library: Any, texts: ErrorTexts, make: Callable[[], Any] | None, given: Any = None) -> None:
        self.library = library
        self.texts = texts
        self._opened = Opened(make, given, texts.name)
        self._slot = library.crc.key_slot
        self._stale = False
        exceptions = library.exceptions
        self._not_done = (exceptions.AskError, exceptions.TryAgainError)  # a MovedError is an AskError, too

    @classmethod
    def of_url(cls, url: RedisUrl) -> ClusterLink:
        """Return the link to the cluster of the server in a URL; send nothing yet.

        Raises:
            UsageError: the client library is missing.
        """
        library = import_client("redis", "redis")
        texts = ErrorTexts(url.name, url.endpoint.scrub, library, url.timeout_seconds)

        def make() -> Any:
            arguments = url.arguments()
            if url.tls is not None:
                # A client made by the library itself would wait for the handshake as long as for a call.
                first = library.Redis(retry=never_again(library), **arguments)
                hasten(library, first, url.timeout_seconds)
                host, port = arguments.pop("host"), arguments.pop("port")
                arguments["startup_nodes"] = [library.cluster.ClusterNode(host, port, redis_connection=first)]
            return library.RedisCluster(retry=never_again(library), **arguments)

        return cls(library, texts, make)

    def groups(self, keys: Sequence[bytes]) -> list[list[int]]:
        """Return the positions of keys, grouped by slot: the keys of a command must have the same slot."""
        by_slot: dict[int, list[int]] = {}
        slot = self._slot
        for position, key in enumerate(keys):
            by_slot.setdefault(slot(key), []).append(position)
        return list(by_slot.values())

    def batch(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands, one batch to each server, and return their replies, including errors.

        Raises:
            StorageError: a connection failed.
        """
        with self.texts.translated():
            cluster = self._cluster()
            replies: list[Any] = [None] * len(commands)
            for client, positions in self._by_server(cluster, commands):
                pipeline = client.pipeline(transaction=False)
                for position in positions:
                    pipeline.execute_command(*commands[position].words)
                for position, reply in zip(positions, self._execute(pipeline), strict=True):
                    replies[position] = reply
            for position, reply in enumerate(replies):
                if isinstance(reply, self._not_done):
                    replies[position] = self._follow(cluster, commands[position])
            return replies

    def ahead(self, batches: Iterable[Sequence[Command]]) -> Iterator[list[Any]]:
        """Yield the replies to each batch of commands, one batch after another.

        Raises:
            StorageError: a connection failed.
        """
        return map(self.batch, batches)

    def client(self) -> Any:
        """Return the client library's own client, for reads."""
        return self._cluster()

    def primaries(self) -> list[Any]:
        """Return a client for each server that holds slots.

        Raises:
            StorageError: the cluster cannot be reached.
        """
        with self.texts.translated():
            cluster = self._cluster()
            return [cluster.get_redis_connection(node) for node in cluster.get_primaries()]

    def topology(self) -> object:
        """Return which server holds which slots, as reported by the servers themselves.

        Raises:
            StorageError: slots are moving or not covered, or a server is gone.
        """
        held: dict[str, Any] = {}
        for client in self.primaries():
            with self.texts.translated():
                nodes = client.execute_command("CLUSTER NODES")
            for name, node in nodes.items():
                if "myself" in node["flags"]:
                    if node.get("migrations"):
                        message = "the cluster is moving slots, so a listing could miss keys: run again when it is done"
                        raise StorageError(message, storage=self.texts.name)
                    held[name] = sorted(tuple(map(int, part)) for part in node["slots"])
        covered = sum(part[-1] - part[0] + 1 for parts in held.values() for part in parts)
        if covered != SLOTS:
            self._stale = True
            message = f"the servers hold {covered} of {SLOTS} slots, so a listing would miss keys: repair the cluster"
            raise StorageError(message, storage=self.texts.name)
        return held

    def close(self) -> None:
        """Close the connections that were opened here."""
        self._opened.close()

    def _cluster(self) -> Any:
        cluster = self._opened.get()
        if self._stale:
            cluster.nodes_manager.initialize()
            self._stale = False
        return cluster

    def _by_server(self, cluster: Any, commands: Sequence[Command]) -> list[tuple[Any, list[int]]]:
        by_server: dict[str, tuple[Any, list[int]]] = {}
        find = cluster.nodes_manager.get_node_from_slot
        for position, command in enumerate(commands):
            node = find(self._slot(command.key))
            if node.name not in by_server:
                by_server[node.name] = (cluster.get_redis_connection(node), [])
            by_server[node.name][1].append(position)
        return list(by_server.values())

    def _execute(self, pipeline: Any) -> list[Any]:
        try:
            return list(pipeline.execute(raise_on_error=False))
        except Exception as error:
            # The server may be gone for good, and another may have taken over its slots.
            self._stale = self._stale or self.texts.is_unreachable(error)
            raise

    def _follow(self, cluster: Any, command: Command) -> Any:
        """Send a command that was not executed to the new server of its slot."""
        try:
            return cluster.execute_command(*command.words)
        except self.library.exceptions.ResponseError as error:
            return error
