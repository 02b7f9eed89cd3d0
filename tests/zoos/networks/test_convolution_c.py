"""Where the compiled convolution comes from, and what happens without a compiler."""

import shutil
from pathlib import Path

import pytest

from weightzoo.zoos.networks import convolution_c

load = convolution_c.library.__wrapped__  # anew in every test


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("WEIGHTZOO_COMPILE", raising=False)
    return tmp_path / "weightzoo"


def test_library_is_compiled_once(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    monkeypatch.delenv("CC", raising=False)
    assert load() is not None
    (made,) = own_cache.iterdir()  # and no leftovers
    before = made.stat().st_mtime_ns
    assert load() is not None
    assert made.stat().st_mtime_ns == before


def test_library_is_none_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    assert load() is None


def test_library_is_none_if_switched_off(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHTZOO_COMPILE", "0")
    assert load() is None
    assert not own_cache.exists()


def test_library_warns_if_the_compiler_fails(own_cache: Path, tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo 1 && exit 0\necho why >&2\nexit 3\n'
    )
    compiler.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", str(compiler))
        with pytest.warns(UserWarning, match="training will be slower.* why"):
            assert load() is None
    assert not list(own_cache.iterdir())


def test_library_is_not_taken_from_a_folder_that_others_may_write(own_cache: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    own_cache.mkdir()
    own_cache.chmod(0o777)
    with pytest.warns(UserWarning, match="can be written by others"):
        assert load() is None
    own_cache.chmod(0o755)
    assert load() is not None


def test_library_takes_cc_if_no_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "")
    assert (load() is None) == (shutil.which("cc") is None)


def test_library_warns_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", _no_home)
    with pytest.warns(UserWarning, match="Could not determine home"):
        assert load() is None


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")  # as pathlib says it
