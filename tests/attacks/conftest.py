"""The one folder of tests that mirrors no module: processes are attacked from outside."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
