"""``ndrnn serve``: a page in the browser that shows trained models at work."""

from __future__ import annotations

import signal
import socket
import tempfile
import threading
import webbrowser
from pathlib import Path

import uvicorn

from ..options import Serve
from ..output import Output
from ..page.guard import is_local, names_of
from ..page.pictures import Pictures
from ..page.served import open_models
from ..page.site import Site
from ..page.work import Worker


def run(options: Serve) -> int:
    """Run the command until it is interrupted; returns the exit status."""
    out = Output(False)
    _end_in_order()
    models = open_models(options.models, options.device)
    with (
        _listening(options.host, options.port) as listener,
        tempfile.TemporaryDirectory(prefix="ndrnn-") as folder,
    ):
        pictures = Pictures(
            Path(folder), int(options.max_megabytes * 2**20), int(options.max_megapixels * 1_000_000)
        )
        worker = Worker()
        try:
            local = is_local(options.host)
            app = Site(models, pictures, worker).app(names_of(options.host), local)
            address = _address(options.host, listener.getsockname()[1])
            out.say(f"{', '.join(model.name for model in models)}: {address} (Ctrl-C ends it)")
            if not local:
                out.warn("whoever reaches this address can use the page: it asks for no password")
            if options.open:
                webbrowser.open(address)
            _server(app).run(sockets=[listener])
        except KeyboardInterrupt:
            out.say("")
        finally:
            worker.close()
    return 0


def _end_in_order() -> None:
    """Let other signals end the command as Ctrl-C does, so that the temporary folder goes too."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):  # the second is not everywhere
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), end)


def _server(app: object) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,  # type: ignore[arg-type]
            http="h11",
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=64,
            timeout_graceful_shutdown=2,
        )
    )


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        OSError: it cannot.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=64)
    except OSError as error:
        raise OSError(
            f"cannot listen at {host}, port {port} ({error.strerror or error}); --port 0 takes a free one"
        ) from error


def _address(host: str, port: int) -> str:
    """What to type into a browser on this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
