"""A read-only mount of a folder that answers late and at a limited rate, as a distant server does.

    python benchmarks/peers/slow_mount.py FOLDER MOUNT LATENCY RATE

Serves the files of FOLDER under MOUNT until it is unmounted, for Linux and root. LATENCY is the
seconds that every answer takes, RATE the bytes per second of all answers together; answers overlap.
Prints the number of requests and bytes on each line that it reads. The mount has the type
fuse.sshfs, so `load_zoo` takes it for a network mount.

Source: the FUSE protocol of Linux, include/uapi/linux/fuse.h, version 7.31.
"""

import ctypes
import os
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE, FLUSH, INIT = 1, 2, 3, 14, 15, 18, 25, 26
OPENDIR, RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET = 27, 29, 36, 38, 42
WITHOUT_REPLY = (FORGET, BATCH_FORGET, INTERRUPT, DESTROY)
ROOT, READ_ONLY, DETACH = 1, 1, 2
ASYNC_READ = 1
REQUEST_BYTES, READAHEAD_BYTES = 2**20, 2**17
ANSWERS = 32  # under way at a time
ENOSYS, ENOENT = 38, 2
LIBC = ctypes.CDLL(None, use_errno=True)


class SlowMount:
    """The server of a mount."""

    def __init__(self, folder: Path, mount: Path, latency: float, rate: float) -> None:
        """Mount a folder.

        Args:
            folder: folder whose files are served.
            mount: empty folder under which they appear.
            latency: seconds that every answer takes.
            rate: bytes per second of all answers.

        Raises:
            OSError: if the system does not let this process mount.
        """
        self._files = sorted(path for path in folder.iterdir() if path.is_file())
        self._opened = [os.open(path, os.O_RDONLY) for path in self._files]
        self._latency, self._rate, self._free = latency, rate, 0.0
        self._lock = threading.Lock()
        self.requests = self.bytes_sent = 0
        self._device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0,allow_other"
        if LIBC.mount(b"slow", bytes(mount), b"fuse.sshfs", READ_ONLY, options.encode()):
            raise OSError(ctypes.get_errno(), "cannot mount", str(mount))

    def serve(self) -> None:
        """Answer requests until the folder is unmounted."""
        with ThreadPoolExecutor(ANSWERS) as threads:
            while True:
                try:
                    request = os.read(self._device, REQUEST_BYTES)
                except OSError:  # unmounted
                    return
                _, code, unique, node = struct.unpack_from("<IIQQ", request)
                if code == READ:
                    threads.submit(self._read, unique, node, request[40:])
                elif code not in WITHOUT_REPLY:
                    self._reply(unique, *self._answer(code, node, request[40:]))

    def _answer(self, code: int, node: int, body: bytes) -> tuple[bytes, int]:
        """Content and error number of a reply to anything but a read."""
        if code == INIT:
            sizes = (7, 31, READAHEAD_BYTES, ASYNC_READ, ANSWERS, ANSWERS, 4096, 1)
            return struct.pack("<IIIIHHII", *sizes).ljust(64, b"\0"), 0
        if code == LOOKUP:
            names = [path.name.encode() for path in self._files]
            if (name := body.rstrip(b"\0")) not in names:
                return b"", ENOENT
            number = names.index(name) + ROOT + 1
            return struct.pack("<QQQQII", number, 0, 3600, 3600, 0, 0) + self._attributes(number), 0
        if code == GETATTR:
            return struct.pack("<QII", 3600, 0, 0) + self._attributes(node), 0
        if code in (OPEN, OPENDIR):
            return struct.pack("<QII", 0, 0, 0), 0
        return b"", 0 if code in (RELEASE, RELEASEDIR, FLUSH) else ENOSYS

    def _attributes(self, node: int) -> bytes:
        """Attributes of the folder or of a file."""
        if node == ROOT:
            return struct.pack("<6Q10I", node, *[0] * 8, 0o40755, 2, *[0] * 5)
        stat = os.fstat(self._opened[node - ROOT - 1])
        seconds, rest = divmod(stat.st_mtime_ns, 10**9)
        times = (seconds, seconds, seconds, rest, rest, rest)
        blocks = stat.st_size // 512 + 1
        return struct.pack("<6Q10I", node, stat.st_size, blocks, *times, 0o100644, 1, *[0] * 5)

    def _read(self, unique: int, node: int, body: bytes) -> None:
        """Answer a read when the line would have sent it."""
        _, offset, size = struct.unpack_from("<QQI", body)
        data = os.pread(self._opened[node - ROOT - 1], size, offset)
        with self._lock:
            self.requests, self.bytes_sent = self.requests + 1, self.bytes_sent + len(data)
            self._free = max(self._free, time.monotonic()) + len(data) / self._rate
            wait = self._free + self._latency - time.monotonic()
        time.sleep(max(0, wait))
        self._reply(unique, data, 0)

    def _reply(self, unique: int, content: bytes, error: int) -> None:
        os.write(self._device, struct.pack("<IiQ", 16 + len(content), -error, unique) + content)


def unmount(mount: Path) -> None:
    """End a mount.

    Args:
        mount: folder of the mount.
    """
    LIBC.umount2(bytes(mount), DETACH)


def main() -> None:
    """Serve, and print what was sent whenever a line is read."""
    folder, mount, latency, rate = sys.argv[1:]
    server = SlowMount(Path(folder), Path(mount), float(latency), float(rate))
    threading.Thread(target=server.serve, daemon=True).start()
    print("mounted", flush=True)
    for _ in sys.stdin:
        print(server.requests, server.bytes_sent, flush=True)


if __name__ == "__main__":
    main()
