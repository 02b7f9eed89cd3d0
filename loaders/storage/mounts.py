"""Network mounts, whose files can change or disappear without notice.

Linux lists its mounts in /proc/self/mountinfo; see proc_pid_mountinfo(5) for the fields.
"""

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
NETWORK_TYPES = (
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "gpfs", "beegfs"),
    *("glusterfs", "orangefs", "pvfs2", "ncpfs", "coda", "wekafs", "davfs"),
)
NETWORK_HELPERS = (  # types that follow "fuse."
    *("sshfs", "rclone", "glusterfs", "ceph", "davfs2", "cifs", "smbnetfs", "s3fs", "goofys"),
    *("gcsfuse", "blobfuse", "blobfuse2", "juicefs", "mount-s3", "mountpoint-s3", "curlftpfs"),
    *("seaweedfs", "moosefs", "cvmfs2", "hf-mount"),
)


def is_on_network(path: Path, mounts: Path = MOUNTS) -> bool:
    """Whether a path is on a network mount, as far as the system tells.

    Args:
        path: path of a file or folder.
        mounts: list of mounts of the system; if it is missing, the answer is False.
    """
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:  # not Linux
        return False
    whole, best, kind = f"{path.resolve()}/", "", ""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        point = _unescaped(fields.split(" ")[4])
        if len(point) >= len(best) and whole.startswith(f"{point.rstrip('/')}/"):
            best, kind = (
                point,
                rest.split(" ")[0],
            )  # of two mounts at one point, the later one is visible
    return kind in NETWORK_TYPES or kind.removeprefix("fuse.") in NETWORK_HELPERS


def _unescaped(text: str) -> str:
    """A path with octal escapes (space, tab, line break, backslash) resolved."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
