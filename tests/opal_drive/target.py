"""The NVMe/TCP target: a listener, a thread for each connection, and the power switch."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from .drive import Drive
from .nvme import Completion, Subsystem
from .power import PowerCut
from .queues import Queue


class Target:
    """Serves one drive to hosts. Losing power closes every connection and forgets what is volatile."""

    def __init__(self, drive: Drive, serial: str, address: tuple[str, int], log: Callable[[str], None]) -> None:
        """Listen; connections are served once `start` was called.

        Args:
            address: IPv4 address and port; port 0 takes a free one.
        """
        self.drive = drive
        self.subsystem = Subsystem(drive, serial)
        self._serial = serial
        self._log = log
        self._listener = socket.create_server(address)
        self._connections: set[socket.socket] = set()
        self._powered = True
        self._last_cut = ""

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._listener.getsockname()[:2]
        return host, port

    @property
    def powered(self) -> bool:
        """Whether the drive has power."""
        return self._powered

    @property
    def last_cut(self) -> str:
        """The step after which a chosen power cut came; empty: none did."""
        return self._last_cut

    def start(self) -> None:
        """Accept connections in the background."""
        threading.Thread(target=self._accept, name="accept", daemon=True).start()

    def close(self) -> None:
        """Stop: close the listener, every connection, and the image."""
        with self.drive.lock:
            self._powered = False
            self._drop_connections()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drive.close()

    def power_off(self) -> None:
        """Take power away: connections end, and new ones are refused until power is back."""
        with self.drive.lock:
            self._powered = False
            self._drop_connections()

    def power_on(self) -> None:
        """Give power back to a drive that has none."""
        with self.drive.lock:
            if not self._powered:
                self._restart()
                self._powered = True

    def power_cycle(self) -> None:
        """Take power away and give it back."""
        with self.drive.lock:
            self.power_off()
            self.power_on()

    def hardware_reset(self) -> None:
        """Reset the drive without taking its power: connections end, ranges stay as they are."""
        with self.drive.lock:
            self._drop_connections()
            self.drive.tper.hardware_reset()

    def _restart(self) -> None:
        self.drive.power.cut_after = None
        self.subsystem = Subsystem(self.drive, self._serial)
        self.drive.power_cycle()

    def _drop_connections(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def _accept(self) -> None:
        while True:
            try:
                connection, _peer = self._listener.accept()
            except OSError:  # closed
                return
            with self.drive.lock:
                if not self._powered:
                    connection.close()
                    continue
                self._connections.add(connection)
                subsystem = self.subsystem
            threading.Thread(target=self._serve, args=(connection, subsystem), daemon=True).start()

    def _serve(self, connection: socket.socket, subsystem: Subsystem) -> None:
        """Serve one connection to its end."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            Queue(connection, subsystem, lambda command: self._run(connection, command)).serve()
        except OSError as error:
            self._log(f"connection lost: {error}")
        finally:
            with self.drive.lock:
                if connection in self._connections:
                    self._connections.remove(connection)
                    if not self._connections:
                        self.drive.host_left()
            connection.close()

    def _run(self, connection: socket.socket, command: Callable[[], Completion | None]) -> Completion | None:
        """Run a command alone; a cut ends every connection before another command can start.

        Raises:
            ConnectionError: Power is gone; nothing more of this connection counts.
        """
        with self.drive.lock:
            if connection not in self._connections:
                raise ConnectionAbortedError("power was lost")
            try:
                return command()
            except PowerCut as cut:
                self._last_cut = str(cut)
                self._log(f"power lost after: {cut}")
                self.power_cycle()
                raise ConnectionAbortedError("power was lost") from cut
