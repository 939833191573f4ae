"""Who holds a lease: a process of some machine, as text for people."""

from __future__ import annotations

import os
import socket
import threading

__all__ = ["owner", "process_is_gone"]


def process_is_gone(owner_text: str) -> bool:
    """Whether an owner was a process of this machine that does not exist any more."""
    host, separator, rest = owner_text.rpartition(" pid ")
    number = rest.partition(" ")[0]
    if not separator or host != socket.gethostname() or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def owner() -> str:
    """Return who we are, for people who find our lease."""
    return f"{socket.gethostname()} pid {os.getpid()} {threading.current_thread().name}"
