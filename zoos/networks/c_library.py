"""C files of the package, compiled for this machine if it has a C compiler.

The compiler `$CC` or `cc` runs once for a file; the library is kept in the user's cache folder
under a hash of the source, the flags, the compiler and the processor.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

FLAGS = ("-O3", "-march=native", "-fPIC", "-shared", "-std=gnu11")


def load_library(source: Path, slower: str) -> ctypes.CDLL | None:
    """Compile a C file, unless that was done before, and load it.

    Args:
        source: C file.
        slower: what is slower without it, for the warning if the compiler fails.

    Returns:
        The library, or None without a compiler or with WEIGHTZOO_COMPILE=0.
    """
    compiler = shlex.split(os.environ.get("CC") or "cc")
    if os.environ.get("WEIGHTZOO_COMPILE") == "0" or not shutil.which(compiler[0]):
        return None
    try:
        return ctypes.CDLL(str(_compiled(source, compiler)))
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        warnings.warn(
            f"cannot compile {source.name}, {slower} will be slower: {error} {said:.1000}",
            stacklevel=3,
        )
        return None


def _compiled(source: Path, compiler: list[str]) -> Path:
    """Path of the library, which is compiled if it does not exist yet."""
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=True).stdout
    parts = (source.read_bytes(), " ".join(FLAGS).encode(), version, processor_features().encode())
    name = hashlib.sha256(b"\0".join(parts)).hexdigest()[:24]
    cache = cache_folder()
    target = cache / f"{source.stem}-{name}.so"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        made = Path(folder) / target.name
        command = [*compiler, *FLAGS, "-o", str(made), str(source)]
        subprocess.run(command, check=True, capture_output=True)
        os.replace(made, target)
    return target


def cache_folder() -> Path:
    """A cache folder that only the user can write to: a foreign library would run as the user.

    Raises:
        PermissionError: if others own the folder or may write to it.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weightzoo"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    stat = cache.stat()
    if stat.st_uid != os.geteuid() or stat.st_mode & 0o022:
        raise PermissionError(
            f"{cache} belongs to or can be written by others: `chmod go-w` it if it is yours, or "
            "set XDG_CACHE_HOME to a folder of your own"
        )
    return cache


def processor_features() -> str:
    """Processor features used by -march=native: two machines may share one home folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.processor() + platform.machine()
