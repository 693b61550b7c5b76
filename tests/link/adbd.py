"""A stand-in for a phone: what Android's adbd says on the wire, so that the real adb client and server can talk to it.

Written from the protocol's description (Android's `protocol.txt` and `SYNC.TXT`): CNXN, OPEN, OKAY, WRTE, CLSE; the
services `shell,v2` and `sync:` (STAT, SEND, QUIT). Commands run here, with /data/local/tmp elsewhere.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from pathlib import Path

VERSION, MAX_DATA = 0x01000001, 1 << 18
BANNER = b"device::ro.product.name=test;ro.product.model=Test;ro.product.device=test;features=shell_v2,cmd"
STDOUT, STDERR, EXIT = 1, 2, 3


class Adbd(threading.Thread):
    """Listens on 127.0.0.1; `root` is what /data/local/tmp is, `bin` comes first on the path of its shell."""

    def __init__(self, root: Path, bin_: Path):
        super().__init__(daemon=True)
        self.root, self.bin = root, bin_
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.pushed_bytes = 0
        self.cut_after: int | None = None  # bytes pushed, after which the cable is pulled

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(Wire(connection),), daemon=True).start()

    def _serve(self, wire: Wire) -> None:
        streams: dict[int, Stream] = {}
        try:
            while True:
                command, first, second, data = wire.receive()
                if command == b"CNXN":
                    wire.send(b"CNXN", VERSION, MAX_DATA, BANNER)
                elif command == b"OPEN":
                    stream = streams[len(streams) + 1] = Stream(self, wire, len(streams) + 1, first)
                    wire.send(b"OKAY", stream.local, first)
                    stream.begin(data.rstrip(b"\0").decode())
                elif command == b"WRTE" and second in streams:
                    wire.send(b"OKAY", second, first)
                    streams[second].take(data)
                elif command == b"OKAY" and second in streams:
                    streams[second].ready.release()
        except (OSError, EOFError):
            wire.close()

    def path(self, remote: str) -> Path:
        return Path(remote.replace("/data/local/tmp", str(self.root), 1))


class Wire:
    """Messages of 24 bytes and their data."""

    def __init__(self, connection: socket.socket):
        self._connection, self._file, self._lock = connection, connection.makefile("rb"), threading.Lock()

    def receive(self) -> tuple[bytes, int, int, bytes]:
        head = self._file.read(24)
        if len(head) < 24:
            raise EOFError
        command, first, second, length = struct.unpack("<4sIII", head[:16])
        return command, first, second, self._file.read(length)

    def send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        magic = struct.unpack("<I", command)[0] ^ 0xFFFFFFFF
        head = struct.pack("<4sIIIII", command, first, second, len(data), sum(data) & 0xFFFFFFFF, magic)
        with self._lock:
            self._connection.sendall(head + data)

    def close(self) -> None:
        """Now: the file made from the socket would keep it open."""
        self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


class Stream:
    """One open service."""

    def __init__(self, device: Adbd, wire: Wire, local: int, remote: int):
        self.device, self.wire, self.local, self.remote = device, wire, local, remote
        self.ready = threading.Semaphore(1)
        self._buffer, self._sending = b"", b""
        self._file: list[bytes] = []

    def begin(self, service: str) -> None:
        if service.startswith("shell"):
            threading.Thread(target=self._shell, args=(service.partition(":")[2],), daemon=True).start()
        self._sync = service.startswith("sync:")

    def take(self, data: bytes) -> None:
        if self._sync:
            self._buffer += data
            self._read_sync()

    def write(self, data: bytes) -> None:
        for at in range(0, len(data), MAX_DATA // 2):
            self.ready.acquire()
            self.wire.send(b"WRTE", self.local, self.remote, data[at : at + MAX_DATA // 2])

    def _shell(self, command: str) -> None:
        script = command.replace("/data/local/tmp", str(self.device.root))
        environment = os.environ | {"PATH": f"{self.device.bin}:/usr/bin:/bin"}
        done = subprocess.run(["sh", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, env=environment)
        for kind, data in ((STDOUT, done.stdout), (STDERR, done.stderr), (EXIT, bytes([done.returncode & 255]))):
            if data:
                self.write(struct.pack("<BI", kind, len(data)) + data)
        self.ready.acquire()
        self.wire.send(b"CLSE", self.local, self.remote)

    def _read_sync(self) -> None:
        while len(self._buffer) >= 8:
            kind, length = struct.unpack("<4sI", self._buffer[:8])
            body = 0 if kind in (b"DONE", b"QUIT") else length
            if len(self._buffer) < 8 + body:
                return
            data, self._buffer = self._buffer[8 : 8 + body], self._buffer[8 + body :]
            self._sync_request(kind, data)

    def _sync_request(self, kind: bytes, data: bytes) -> None:
        if kind == b"STAT":
            path = self.device.path(data.decode())
            found = path.stat() if path.exists() else None
            numbers = (found.st_mode, found.st_size, int(found.st_mtime)) if found else (0, 0, 0)
            self.write(struct.pack("<4sIII", b"STAT", *numbers))
        elif kind == b"SEND":
            self._sending, self._file = data, []
        elif kind == b"DATA":
            self._file.append(data)
            self.device.pushed_bytes += len(data)
            if self.device.cut_after is not None and self.device.pushed_bytes > self.device.cut_after:
                self.wire.close()
                raise EOFError
        elif kind == b"DONE":
            name, _, mode = self._sending.decode().rpartition(",")
            path = self.device.path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"".join(self._file))
            path.chmod(int(mode) & 0o777)
            self.write(struct.pack("<4sI", b"OKAY", 0))
        elif kind == b"QUIT":
            self.wire.send(b"CLSE", self.local, self.remote)
