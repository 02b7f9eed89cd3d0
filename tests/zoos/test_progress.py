"""Progress bars: on stderr, only for work that takes a while, and only when asked for."""

from pathlib import Path

import pytest

from weightzoo.tasks.inspection.verification import verify_zoo
from weightzoo.zoos import progress


def test_bar_counts_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0)
    with progress.progress_bar(3, "rows of a zoo", "row", mininterval=0) as bar:
        bar.update(2)
    shown = capsys.readouterr()
    assert "rows of a zoo:  67%" in shown.err and shown.out == ""


@pytest.mark.parametrize(("delay", "asked"), [(9.0, True), (0.0, False)])
def test_short_or_unasked_work_shows_no_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, delay: float, asked: bool
) -> None:
    monkeypatch.setattr(progress, "DELAY_SECONDS", delay)
    with progress.progress_bar(3, "rows", "row", asked, mininterval=0) as bar:
        bar.update(2)
    assert "rows" not in capsys.readouterr().err


def test_verify_shows_what_it_checks(
    tiny_zoo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0)
    verify_zoo(tiny_zoo, progress=True)
    shown = capsys.readouterr().err
    assert "files: " in shown and "checksums: " in shown and "weights: " in shown
    verify_zoo(tiny_zoo)
    assert capsys.readouterr().err == ""
