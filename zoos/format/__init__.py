"""The zoo file: columnar HDF5 that weightzoo, stock `datasets` and plain h5py read.

One file holds rows (checkpoints) of one architecture. Every root dataset is a column with one
value per row: scalar columns first, `weights` (N, D) float32 last. `weights` is contiguous and
unfiltered, so that it can be mapped into memory. JSON root attributes describe the rest.
`docs/format.md` draws the tree.

Shape letters: N rows, D length of the flat weight vector.
"""

from .columns import IDENTITY as IDENTITY
from .columns import METRICS as METRICS
from .columns import SPLITS as SPLITS
from .columns import STATUSES as STATUSES
from .columns import WEIGHTS as WEIGHTS
from .columns import Column as Column
from .columns import checksum as checksum
from .header import ATTRIBUTE_LIMIT_BYTES as ATTRIBUTE_LIMIT_BYTES
from .header import FORMAT_VERSION as FORMAT_VERSION
from .header import ZooHeader as ZooHeader
from .header import check_format_version as check_format_version
from .writing import create_zoo_file as create_zoo_file
from .writing import finish_zoo_file as finish_zoo_file
from .writing import write_columns_file as write_columns_file
from .writing import write_zoo_file as write_zoo_file
from .zoo_file import ZooFile as ZooFile
from .zoo_file import changed_file as changed_file
from .zoo_file import open_zoo_file as open_zoo_file
from .zoo_file import read_columns_file as read_columns_file
