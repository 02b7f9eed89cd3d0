"""Commands that meet a full disk say so, and go on when there is room; see `full_disks.py`."""

import pytest
from attack_scripts import run_script


@pytest.mark.slow
def test_build_on_a_full_disk_says_so_and_goes_on() -> None:
    disks = run_script("full_disks.py", "--small")["cases"]
    assert {disk["first"] for disk in disks} == {"clear"}, disks
    assert {disk["outcome"] for disk in disks} == {"resumed"}, disks


@pytest.mark.slow
def test_every_command_on_a_full_disk_says_so_and_goes_on() -> None:
    disks = run_script("full_disks.py")["cases"]
    full = [disk for disk in disks if disk["first"] != "done"]
    assert [disk for disk in full if disk["first"] != "clear"] == []
    assert [disk for disk in disks if disk["outcome"] not in ("resumed", "complete")] == []
    assert len(full) >= 30
