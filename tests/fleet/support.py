"""What fleet.py and events.py share: free ports, waiting for a condition, one GET, and words for prompts."""

import contextlib
import http.client
import socket
import time

WORDS = ("river lamp orchard signal copper meadow ticket harbor winter candle ladder garden puzzle ribbon thunder "
         "market pocket window velvet anchor barrel circle dragon engine feather gravel hammer island jacket").split()


def free_port():
    """A port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(what, condition, seconds=60):
    """Returns the first true value of `condition`. An answer that does not come or cannot be read counts as false."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, KeyError):
            if value := condition():
                return value
        time.sleep(0.05)
    raise SystemExit(f"{what}: not within {seconds} s")


def get(port, path, seconds=10):
    """Status and body of the answer of the server on `port`, over HTTP without TLS."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
