"""The zoo file: columnar HDF5 that weightzoo, stock `datasets` and plain h5py read.

One file holds rows (checkpoints) of one architecture. Every root dataset is a column with one
value per row: scalar columns first, `weights` (N, D) float32 last. `weights` is contiguous and
unfiltered, so that it can be mapped into memory. JSON root attributes describe the rest.
`docs/format.md` draws the tree.

Shape letters: N rows, D length of the flat weight vector.
"""

from .columns import IDENTITY, METRICS, SPLITS, STATUSES, WEIGHTS, Column, checksum
from .header import ATTRIBUTE_LIMIT_BYTES, FORMAT_VERSION, ZooHeader, check_format_version
from .writing import create_zoo_file, finish_zoo_file, write_columns_file, write_zoo_file
from .zoo_file import ZooFile, changed_file, open_zoo_file, read_columns_file

__all__ = [
    "ATTRIBUTE_LIMIT_BYTES",
    "FORMAT_VERSION",
    "IDENTITY",
    "METRICS",
    "SPLITS",
    "STATUSES",
    "WEIGHTS",
    "Column",
    "ZooFile",
    "ZooHeader",
    "changed_file",
    "check_format_version",
    "checksum",
    "create_zoo_file",
    "finish_zoo_file",
    "open_zoo_file",
    "read_columns_file",
    "write_columns_file",
    "write_zoo_file",
]
