"""`python -m weightzoo` is the command `weightzoo`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
