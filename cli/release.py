"""The command `release`: the project's own collection, built, described and published."""

import argparse
from pathlib import Path
from typing import Any

from .arguments import add_command, print_result, whole


def add_release_command(commands: Any) -> None:
    """Add `release`."""
    release = add_command(
        commands,
        "release",
        _release,
        "build, verify and describe weightzoo's own collection of zoos, and publish it; a release "
        "that was stopped continues when the same command is given again",
        "weightzoo release zoos --push ORG/NAME",
    )
    release.add_argument("folder", type=Path, help="folder of the collection")
    release.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="members to build, with the members that they are made from (default: all)",
    )
    release.add_argument(
        "--push",
        metavar="ORG/NAME",
        help="dataset repository on the Hub to publish in, created if missing (default: none)",
    )
    release.add_argument(
        "--private", action="store_true", help="make a new repository private (default: public)"
    )
    release.add_argument(
        "--dry-run",
        action="store_true",
        help="print the estimated size and duration of every member, and stop",
    )
    release.add_argument(
        "--plan",
        type=Path,
        help="TOML file with the plan of another collection (default: weightzoo's own)",
    )
    release.add_argument(
        "--workers",
        type=whole(1),
        help="number of worker processes (default: one per core)",
    )


def _release(options: argparse.Namespace) -> None:
    from ..tasks.release.collection import PLAN_PATH, load_collection

    plan = load_collection(options.plan or PLAN_PATH)
    if options.dry_run:
        from dataclasses import asdict

        from ..tasks.release.estimates import estimate_collection, estimates_text

        estimates = estimate_collection(plan.only(options.only), options.workers)
        rows = [asdict(one) for one in estimates]
        print_result(options, rows, estimates_text(estimates))
        return
    from ..tasks.release.release import release_collection

    result = release_collection(
        options.folder,
        plan,
        only=options.only,
        push=options.push,
        private=options.private,
        workers=options.workers,
    )
    text = f"{result['path']}: {len(result['members'])} members, {result['bytes']} bytes"
    pushed = f", published in {options.push} at {result['commit']}" if options.push else ""
    print_result(options, result, text + pushed)
