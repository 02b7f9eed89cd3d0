"""`analyse_zoo`: measures of every checkpoint of a zoo, as columns, report and plots."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...builders.training.objectives import DataSet, load_data
from ...loaders.editing import save_zoo
from ...loaders.load import ZooDataset, load_zoo
from ...zoos.errors import BuildError, RecipeError, UnsuitableError, ZooFormatError
from ...zoos.format import checksum
from ...zoos.images.signals import SignalSet
from ...zoos.progress import progress_bar
from ...zoos.texts.text_set import TextSet
from ..inspection.rebuilt_models import training_data
from ..processes import threads, worker_pool
from .agreement import pair_agreement, population_agreement
from .block_measures import MEASURES, PREDICTIONS, Block
from .measures import PATH_ONLY, Family, chosen_families
from .plots import plot_analysis
from .population_rows import PopulationRows
from .report import Analysis, analysis_data, write_analysis
from .settings import AnalysisSettings
from .work_folder import WORK_NAME, Part, WorkFolder

BLOCK_MODELS = 8
Columns = dict[str, np.ndarray]


def analyse_zoo(
    zoo: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    settings: AnalysisSettings | None = None,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = True,
    suffix: str = ".png",
) -> Analysis:
    """Measure every checkpoint of a zoo, and write columns, report and plots.

    The folder `out` gets a zoo folder with the columns added, `report.md`, `report.json` and the
    plots. A stopped analysis continues when it is started again; further measures can be added to
    a finished one. Rows that diverged get NaN.

    Args:
        zoo: zoo file or folder, folder of zoo folders, or repository on the Hub.
        out: output folder.
        name: name of the zoo, if there are several.
        settings: measures and their precision; None takes the defaults.
        workers: number of worker processes with one thread each; 1 works in this process.
        overwrite: whether an analysis with other settings in `out` is replaced.
        progress: whether to show a progress bar on stderr.
        suffix: suffix of the plots: .png, .pdf or .svg.

    Raises:
        ValueError: if a setting or the suffix is unknown, or the zoo is not one zoo.
        UnsuitableError: if the zoo lacks what a measure asked for by name needs.
        BuildError: if `out` holds something else.

    Example:
        >>> import tempfile
        >>> from weightzoo.tasks.dynamics.analysis import analyse_zoo
        >>> from weightzoo.tasks.dynamics.settings import AnalysisSettings
        >>> settings = AnalysisSettings(measures=("paths", "spectra"))
        >>> found = analyse_zoo(ZOO, tempfile.mkdtemp(), settings=settings, progress=False)
        >>> found.zoo.name, found.data["rows"], "path_length" in found.data["measures"]
        ('tiny', 12, True)
    """
    settings, out = settings or AnalysisSettings(), Path(out)
    splits = _one_zoo(zoo, name)
    population = PopulationRows.of(splits)
    families, data, notes = _usable(population, settings)
    title = next(iter(splits.values())).name
    _check_out(out, title, population, overwrite)
    work = WorkFolder.claim(out, _plan(population, settings), overwrite)
    blocks = _blocks(population)
    parts = [Part(family.name, block) for block in range(len(blocks)) for family in families]
    context = _Context(str(zoo), name, settings, work, None if data is None else data.name)
    _run(context, parts, [sum(map(len, block)) for block in blocks], workers, progress)
    columns = _columns(population, blocks, families, work)
    path = _save(population, columns, out / title)
    for note in notes if progress else ():
        print(f"weightzoo: {note}", file=sys.stderr)
    found = Analysis(
        zoo=path,
        folder=out,
        data=analysis_data(population, columns, families, settings, notes),
    )
    plots = plot_analysis(population, columns, out, suffix)
    write_analysis(found, plots)
    return found


@dataclass(frozen=True)
class _Context:
    """What a worker process needs to measure a part."""

    zoo: str
    name: str | None
    settings: AnalysisSettings
    work: WorkFolder
    data: str | None


def _one_zoo(zoo: str | Path, name: str | None) -> Mapping[str, ZooDataset]:
    splits = load_zoo(str(zoo), name)
    return {key: part for key, part in splits.items() if len(part)}


def _usable(
    population: PopulationRows, settings: AnalysisSettings
) -> tuple[list[Family], DataSet | None, list[str]]:
    """Families that the zoo has what it needs for, its images, and notes on the others.

    Raises:
        UnsuitableError: if a family asked for by name cannot be measured.
        ValueError: if the zoo has no checkpoint of an epoch.
    """
    known = np.unique(population.column("epoch")).tolist()
    if unknown := sorted(set(settings.epochs or ()) - set(known)):
        raise ValueError(f"epochs must be of {known}, the checkpoints of the zoo, got {unknown}")
    data, reason = _data(population, settings)
    usable, notes = list[Family](), list[str]()
    for family in chosen_families(settings.measures):
        missing = _missing(family, population, data, reason)
        if missing is None:
            usable.append(family)
        elif settings.measures is not None:
            raise UnsuitableError(f"measures {family.name!r} cannot be computed: {missing}")
        else:
            notes.append(f"{family.name}: left out, because {missing}")
    if not usable:
        raise UnsuitableError(f"nothing can be measured: {'; '.join(notes)}")
    if settings.epochs is not None:
        notes.append(f"networks were run at the epochs {sorted(settings.epochs)} only")
    if population.checkpoints < 2 and any(family.networks for family in usable):
        notes.append(f"one checkpoint per model: {', '.join(PATH_ONLY)} are missing values")
    return usable, data, notes


def _missing(
    family: Family, population: PopulationRows, data: DataSet | None, reason: str
) -> str | None:
    """What a family needs and the zoo lacks; None if it can be measured."""
    if family.path and population.checkpoints < 2:
        return "every model of the zoo has one checkpoint, and a path needs at least two"
    if not family.networks:
        return None
    if data is None:
        return reason
    if isinstance(data, TextSet):
        return "its networks read text, and networks are run on images or signals only"
    if family.name == "agreement" and isinstance(data, SignalSet):
        return "its networks fit signals and predict no classes"
    return None


def _data(population: PopulationRows, settings: AnalysisSettings) -> tuple[DataSet | None, str]:
    """Images or signals of the zoo, or the reason why there are none."""
    header = population.dataset.header
    if header.architecture is None:
        todo = "attach one with `weightzoo attach`"
        return None, f"the zoo holds no architecture to run its networks with: {todo}"
    if settings.images is not None:
        return load_data(settings.images), ""
    try:
        return training_data(header), ""
    except (RecipeError, ZooFormatError) as error:
        return None, f"its images are not at hand ({error}); name them with --images"


def _plan(population: PopulationRows, settings: AnalysisSettings) -> dict[str, Any]:
    """Zoo and settings that determine the value of every part."""
    chosen = {key: value for key, value in settings.to_json().items() if key != "measures"}
    rows = {key: checksum(population.column(key)) for key in ("model_id", "epoch")}
    files = [file.header.checksums for file in population.dataset.source.files]
    return {"settings": chosen, "rows": rows, "files": files}


def _check_out(out: Path, title: str, population: PopulationRows, overwrite: bool) -> None:
    """Refuse a folder that holds the zoo itself, or a zoo that no analysis has written."""
    if out.exists() and not out.is_dir():
        raise BuildError(f"{out} is a file: choose another --out")
    sources = {file.path.resolve().parent for file in population.dataset.source.files}
    if (out / title).resolve() in sources:
        raise BuildError(f"{out / title} is the zoo itself: choose another --out")
    if (out / title).exists() and not (out / WORK_NAME).exists() and not overwrite:
        raise BuildError(
            f"{out / title} exists and is of no analysis: choose another --out, or replace it with "
            "--overwrite"
        )


def _blocks(population: PopulationRows) -> list[list[np.ndarray]]:
    models = population.models
    return [models[start : start + BLOCK_MODELS] for start in range(0, len(models), BLOCK_MODELS)]


def _run(
    context: _Context, parts: Sequence[Part], rows: Sequence[int], workers: int, progress: bool
) -> None:
    """Measure the parts that are missing; the bar counts rows times families."""
    todo = [part for part in parts if not context.work.has(part)]
    families = len({part.family for part in parts})
    total = sum(rows[part.number] for part in todo)
    with progress_bar(total, f"{families} families of measures", "row", progress) as bar:
        for part in _measured(context, todo, workers):
            bar.update(rows[part.number])


def _measured(context: _Context, todo: Sequence[Part], workers: int) -> Iterator[Part]:
    """The parts, each when it is on disk."""
    measure = partial(_measure_part, context)
    if workers == 1 or len(todo) < 2:
        with threads(1):
            yield from map(measure, todo)
        return
    with worker_pool(min(workers, len(todo))) as pool:
        yield from pool.map(measure, todo)


def _measure_part(context: _Context, part: Part) -> Part:
    """Measure one family for one block, and write it."""
    population, data = _opened(context.zoo, context.name, context.data)
    models = _blocks(population)[part.number]
    block = Block(population, models, data, context.settings)
    context.work.write(part, MEASURES[part.family](block))
    return part


@cache
def _opened(zoo: str, name: str | None, data: str | None) -> tuple[PopulationRows, DataSet | None]:
    """Zoo and images of this process, opened once."""
    rows = PopulationRows.of(_one_zoo(zoo, name))
    return rows, None if data is None else load_data(data)


def _columns(
    population: PopulationRows,
    blocks: Sequence[Sequence[np.ndarray]],
    families: Sequence[Family],
    work: WorkFolder,
) -> Columns:
    """All columns in the order of the dataset's rows."""
    order = np.concatenate([rows for block in blocks for rows in block])
    found: Columns = {}
    for family in families:
        parts = [work.read(Part(family.name, number)) for number in range(len(blocks))]
        for name in parts[0]:
            joined = np.concatenate([part[name] for part in parts])
            found[name] = np.empty_like(joined)
            found[name][order] = joined
    if PREDICTIONS in found:
        found |= _agreements(population, found.pop(PREDICTIONS))
    for values in found.values():
        if values.dtype.kind == "f":
            values[~population.is_ok] = np.nan
    return found


def _agreements(population: PopulationRows, predictions: np.ndarray) -> Columns:
    """The family "agreement" from predicted classes (N, Q), NaN for rows that diverged."""
    known = np.isfinite(predictions).all(axis=1)
    classes = torch.from_numpy(np.where(known[:, None], predictions, 0)).long()
    found = {name: np.full(len(known), np.nan) for name in ("agreement", "agreement_with_last")}
    epochs = population.column("epoch")
    for epoch in np.unique(epochs):
        rows = np.flatnonzero(known & (epochs == epoch))
        if len(rows) > 1:
            found["agreement"][rows] = population_agreement(classes[rows]).numpy()
    for rows in population.models:
        good = rows[known[rows]]
        if len(good) > 1:
            last = classes[good[-1]].expand(len(good), -1)
            found["agreement_with_last"][good] = pair_agreement(classes[good], last).numpy()
    return found


def _save(population: PopulationRows, columns: Columns, path: Path) -> Path:
    """Write the zoo with the columns added; those of an earlier analysis are replaced."""
    dataset = population.dataset
    taken = [name for name in columns if name in dataset.table.names]
    dataset = dataset.remove_columns(taken) if taken else dataset
    for name, values in columns.items():
        dataset = dataset.add_column(name, values)
    save_zoo(replace(dataset, name=path.name), path, overwrite=True)
    return path
