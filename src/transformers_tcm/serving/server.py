"""Listening, and stopping such that nothing that was accepted is lost."""

import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

__all__ = ["run_server"]


def run_server(app: FastAPI, host: str, port: int, announce: Callable[[str], None], log_level: str = "info") -> None:
    """Serve until SIGTERM or SIGINT; requests whose head was read by then are still answered.

    Args:
        app: the application.
        host: name or address of this machine to listen on.
        port: 0 takes one that is free.
        announce: gets the address once the service listens.
        log_level: one of uvicorn.

    Raises:
        OSError: if that address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_level=log_level, access_log=False))
        _stop_quietly(server)
        name = f"[{host}]" if family == socket.AF_INET6 else host
        announce(f"http://{name}:{listener.getsockname()[1]}")
        server.run(sockets=[listener])


def _stop_quietly(server: uvicorn.Server) -> None:
    """Exit with 0 after a signal to stop.

    uvicorn has handlers of its own while it runs; when all is done it raises the signal again for those of before,
    which would end the process as if it had been killed.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
