"""The report of `weightzoo quickstart`: a table, two plots, and the command to repeat them."""

from collections.abc import Mapping
from pathlib import Path

from ...loaders.load import ZooDataset
from ..inspection.plots import plot_predictions, plot_zoo
from ..inspection.summary import summarise_zoo, summary_text
from .property_report import PropertyReport

REPORT_NAME, ZOO_PLOT, PREDICTION_PLOT = "report.md", "zoo.png", "predictions.png"


def write_report(
    folder: Path, zoo: Mapping[str, ZooDataset], report: PropertyReport, command: str
) -> Path:
    """Write `report.md` with its plots.

    Args:
        folder: existing folder for the report and its plots.
        zoo: dataset by split.
        report: results of the property prediction on the zoo.
        command: command that made zoo and results, for the reader to repeat.

    Returns:
        The path of the report.
    """
    plot_zoo(zoo, folder / ZOO_PLOT)
    learned = {
        result.name: (report.true, result.predicted)
        for result in report.results
        if result.name != "constant"
    }
    plot_predictions(learned, report.target, folder / PREDICTION_PLOT)
    path = folder / REPORT_NAME
    path.write_text(_text(zoo, report, command), encoding="utf-8")
    return path


def _text(zoo: Mapping[str, ZooDataset], report: PropertyReport, command: str) -> str:
    summary = summarise_zoo(zoo)
    return f"""# {summary["name"]}: {report.target} from weights

Made by `{command}` on {summary["provenance"].get("device", "an unknown device")}, \
torch {summary["provenance"].get("torch", "unknown")}.

{report.to_markdown()}
![predicted against true]({PREDICTION_PLOT})

The plot shows predictions with the first seed on the test split.

## The zoo

![accuracy distribution and trajectories]({ZOO_PLOT})

```
{summary_text(summary)}
```
"""
