"""The proxy that loses answers: what it forwards, counts, drops, and delays."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from servers.proxy import DroppingProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers.redis import RedisServer


class Echo(socketserver.StreamRequestHandler):
    """Answers each line with the same line, and remembers it."""

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, EchoServer)
        with contextlib.suppress(ConnectionError):
            if server.greeting:
                self.wfile.write(server.greeting)
            for line in self.rfile:
                server.heard.append(line)
                self.wfile.write(line)


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, greeting: bytes = b"") -> None:
        super().__init__(("127.0.0.1", 0), Echo)
        self.greeting = greeting
        self.heard: list[bytes] = []
        self.port = int(self.server_address[1])


@contextlib.contextmanager
def serving(greeting: bytes = b"") -> Iterator[EchoServer]:
    with EchoServer(greeting) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    with serving() as server:
        yield server


def connect(proxy: DroppingProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), 10)


def ask(connection: socket.socket, line: bytes) -> bytes:
    """Return the answer, or b"" where the connection was cut instead."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        connection.sendall(line)
        while len(answer) < len(line):
            more = connection.recv(1 << 16)
            if not more:
                break
            answer += more
    return answer


def test_everything_is_forwarded_and_counted(echo: EchoServer) -> None:
    with DroppingProxy(echo.port) as proxy, connect(proxy) as connection:
        for number in range(5):
            assert ask(connection, b"line %d\n" % number) == b"line %d\n" % number
        assert proxy.exchanges == 5
        large = b"x" * (5 << 20) + b"\n"
        assert ask(connection, large) == large
        assert not proxy.dropped


def test_the_server_has_done_what_the_client_never_hears_of(echo: EchoServer) -> None:
    with DroppingProxy(echo.port) as proxy:
        with connect(proxy) as connection:
            assert ask(connection, b"one\n") == b"one\n"
            proxy.arm(2)
            assert ask(connection, b"two\n") == b"two\n"
            assert not proxy.dropped
            assert ask(connection, b"three\n") == b""
            assert proxy.dropped
        assert echo.heard == [b"one\n", b"two\n", b"three\n"]
        with connect(proxy) as connection:
            assert ask(connection, b"four\n") == b"four\n"
        assert proxy.exchanges == 4


def test_disarmed_it_drops_nothing(echo: EchoServer) -> None:
    with DroppingProxy(echo.port) as proxy, connect(proxy) as connection:
        proxy.arm()
        proxy.disarm()
        assert ask(connection, b"one\n") == b"one\n"
        assert not proxy.dropped


def test_exchanges_are_counted_over_all_connections(echo: EchoServer) -> None:
    with DroppingProxy(echo.port) as proxy, connect(proxy) as first, connect(proxy) as second:
        proxy.arm(3)
        assert ask(first, b"a\n") == b"a\n"
        assert ask(second, b"b\n") == b"b\n"
        assert ask(second, b"c\n") == b""
        assert ask(first, b"d\n") == b"d\n"  # the other connection stands
        assert proxy.exchanges == 4


def test_a_pipeline_is_one_exchange(echo: EchoServer) -> None:
    with DroppingProxy(echo.port) as proxy, connect(proxy) as connection:
        lines = b"".join(b"%d\n" % number for number in range(10))
        assert ask(connection, lines) == lines
        assert proxy.exchanges == 1


def test_a_greeting_is_no_exchange() -> None:
    with serving(b"hello\n") as server, DroppingProxy(server.port) as proxy:
        proxy.arm()
        with connect(proxy) as connection:
            assert connection.recv(100) == b"hello\n"
            assert proxy.exchanges == 0
            assert ask(connection, b"a\n") == b""
            assert proxy.dropped


def test_many_connections_at_once_lose_one_answer(echo: EchoServer) -> None:
    with DroppingProxy(echo.port) as proxy:
        proxy.arm(50)

        def work(number: int) -> list[bytes]:
            with connect(proxy) as connection:
                return [ask(connection, b"%d\n" % number) for _ in range(20)]

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(work, range(8)))
        cut = [number for number, lines in enumerate(answers) if b"" in lines]
        assert proxy.dropped
        assert len(cut) == 1
        assert all(lines == [b"%d\n" % number] * 20 for number, lines in enumerate(answers) if number not in cut)


def test_a_delay_is_latency_and_no_limit_of_throughput(echo: EchoServer) -> None:
    with DroppingProxy(echo.port, delay_seconds=0.1) as proxy, connect(proxy) as connection:
        started = time.monotonic()
        assert ask(connection, b"a\n") == b"a\n"
        assert time.monotonic() - started >= 0.2
        started = time.monotonic()
        large = b"x" * (4 << 20) + b"\n"
        assert ask(connection, large) == large
        assert time.monotonic() - started < 5  # 64 chunks, each delayed on its own, would take 12


def test_no_server_is_a_connection_that_closes() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with DroppingProxy(unused.getsockname()[1]) as proxy, connect(proxy) as connection:
            assert ask(connection, b"a\n") == b""


def test_with_redis(redis_server: RedisServer) -> None:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    with DroppingProxy(redis_server.port) as proxy:
        client = redis.Redis(port=proxy.port, retry=Retry(NoBackoff(), 0))
        with contextlib.closing(client):
            client.delete("proxied")
            before = proxy.exchanges
            client.set("proxied", "1")
            assert proxy.exchanges == before + 1
            proxy.arm()
            with pytest.raises(redis.ConnectionError):
                client.set("proxied", "2")
            assert proxy.dropped
            assert client.get("proxied") == b"2"  # it was done
            client.delete("proxied")
