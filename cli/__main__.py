"""`python -m weightzoo.cli` is the command `weightzoo`."""

import sys

from .main import main

if __name__ == "__main__":
    sys.exit(main())
