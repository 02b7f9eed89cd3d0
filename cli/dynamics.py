"""The command `analyse`."""

import argparse
from pathlib import Path
from typing import Any

from .arguments import add_command, add_name, check_folder, print_result, whole

# A copy of the names in `tasks.dynamics.measures` and of a setting, which import torch.
MEASURES = ("paths", "spectra", "sharpness", "fisher", "agreement", "barriers")
SUFFIXES = ("png", "pdf", "svg")
IMAGE_COUNT = 64


def add_dynamics_commands(commands: Any) -> None:
    """Add `analyse`."""
    analyse = add_command(
        commands,
        "analyse",
        _analyse,
        "measure paths, curvature, spectra and barriers of every checkpoint of a zoo; writes a "
        "zoo with the measures as columns, a report and plots; a stopped analysis continues when "
        "the same command is given again",
        "weightzoo analyse mlps --measures paths spectra --out analysed",
    )
    analyse.add_argument("zoo", help="zoo file or folder, or org/name on the Hub")
    add_name(analyse)
    analyse.add_argument(
        "--measures",
        nargs="+",
        choices=MEASURES,
        help="families of measures (default: all that the zoo has what it needs for)",
    )
    analyse.add_argument(
        "--out", type=Path, help="output folder (default: ZOO-analysed in this folder)"
    )
    analyse.add_argument(
        "--epochs",
        type=whole(0),
        nargs="+",
        metavar="EPOCH",
        help="epochs at which networks are run; paths and spectra are measured at all (default: "
        "all)",
    )
    analyse.add_argument(
        "--images", help="image set of the losses (default: the one that the zoo records)"
    )
    analyse.add_argument(
        "--image-count",
        type=whole(2),
        default=IMAGE_COUNT,
        help=f"number of train images of the losses (default: {IMAGE_COUNT})",
    )
    analyse.add_argument(
        "--seed", type=whole(0), default=0, help="seed of images, probes and pairs (default: 0)"
    )
    analyse.add_argument(
        "--plots", choices=SUFFIXES, default="png", help="format of the plots (default: png)"
    )
    analyse.add_argument(
        "--workers", type=whole(1), help="number of worker processes (default: one per core)"
    )
    analyse.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an analysis with other settings at --out",
    )


def _analyse(options: argparse.Namespace) -> None:
    import os

    from ..tasks.dynamics.analysis import analyse_zoo
    from ..tasks.dynamics.settings import AnalysisSettings

    out = options.out or Path(f"{options.name or Path(options.zoo).name}-analysed")
    check_folder(out)
    settings = AnalysisSettings(
        measures=None if options.measures is None else tuple(options.measures),
        epochs=None if options.epochs is None else tuple(options.epochs),
        images=options.images,
        image_count=options.image_count,
        seed=options.seed,
    )
    found = analyse_zoo(
        options.zoo,
        out,
        name=options.name,
        settings=settings,
        workers=options.workers or os.cpu_count() or 1,
        overwrite=options.overwrite,
        suffix=f".{options.plots}",
    )
    paths = {"zoo": str(found.zoo), "folder": str(found.folder)}
    print_result(options, dict(found.data) | {"path": paths}, found.text)
