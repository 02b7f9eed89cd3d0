"""The command `weightzoo`: build, inspect, verify, publish and learn from zoos.

The other modules of this package hold the commands by subject. Results go to stdout, progress and
errors to stderr. Exit status: 0 done, 1 failed, 2 wrong usage.
"""

import argparse
import sys
from collections.abc import Sequence

from ..zoos.errors import ZooError
from .benchmarks import add_benchmark_commands
from .building import add_building_commands
from .editing import add_editing_commands
from .merging import add_merging_commands
from .models import add_model_commands
from .ranking import add_ranking_commands
from .zoos import add_zoo_commands

GROUPS = (
    add_building_commands,
    add_zoo_commands,
    add_editing_commands,
    add_model_commands,
    add_merging_commands,
    add_ranking_commands,
    add_benchmark_commands,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except (ZooError, ValueError, OSError) as error:
        print(f"weightzoo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "weightzoo: stopped; give the same command again to continue a build", file=sys.stderr
        )
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="weightzoo",
        description="Populations of trained networks as datasets.",
        epilog="`weightzoo COMMAND --help` shows the options of a command, with an example. "
        "Results go to stdout, progress and errors to stderr. Exit status: 0 done, 1 failed, "
        "2 wrong usage.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add_group in GROUPS:
        add_group(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
