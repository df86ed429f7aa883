"""The result folder: whole or not there, and nobody else's files are ever replaced or deleted."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from strokeseg.errors import InputError
from strokeseg.results import SUMMARY, check_place, is_complete, is_result, writing

SUMMARY_TEXT = '{"strokeseg_version": "0.1.0"}\n'


@pytest.fixture
def around(tmp_path: Path) -> Path:
    folder = tmp_path / "around"
    folder.mkdir()
    return folder


def write(place: Path, mask: str = "new") -> None:
    with writing(place) as partial:
        fill(partial, mask)


def write_and(
    place: Path, *, half_written: str = "", theirs: Path | None = None, error: Exception | None = None
) -> None:
    """Write a result, leave a half-written file in it, meanwhile put somebody's file somewhere, then fail."""
    with writing(place) as partial:
        fill(partial, "new")
        if half_written:
            (partial / half_written).write_text("half", encoding="utf-8")
        if theirs is not None:
            theirs.write_text("mine", encoding="utf-8")
        if error is not None:
            raise error


def fill(folder: Path, mask: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lesion_mask.nii.gz").write_text(mask, encoding="utf-8")
    (folder / SUMMARY).write_text(SUMMARY_TEXT, encoding="utf-8")
    return folder


def mask_of(place: Path) -> str:
    return (place / "lesion_mask.nii.gz").read_text(encoding="utf-8")


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_the_result_appears_at_the_end_of_the_block_and_nothing_stays_beside_it(around: Path) -> None:
    place = around / "out"
    with writing(place) as partial:
        assert re.fullmatch(r"\.partial-out-\d+-\d{13}", partial.name)
        assert partial.parent == around
        fill(partial, "new")
        assert not place.exists()
    assert mask_of(place) == "new"
    assert names(around) == ["out"]
    assert is_result(place)


@pytest.mark.parametrize(
    "name", ["out", "mit Leerzeichen", "Übergrößenträger", "脑卒中", ".hidden", "a+b(c)[d].e", "-x"]
)
def test_every_name_of_a_folder_can_be_used_and_replaced(around: Path, name: str) -> None:
    for mask in ("first", "second"):
        write(around / name, mask)
        assert mask_of(around / name) == mask
    assert names(around) == [name]


def test_an_empty_folder_is_used(around: Path) -> None:
    (around / "out").mkdir()
    write(around / "out")
    assert names(around) == ["out"]
    assert mask_of(around / "out") == "new"


def test_an_earlier_result_is_replaced_as_a_whole(around: Path) -> None:
    fill(around / "out", "earlier")
    (around / "out" / "metrics.json").write_text("{}", encoding="utf-8")
    (around / "out" / "lesion_probability_acute-ischämie.nii.gz").write_text("", encoding="utf-8")
    write(around / "out")
    assert names(around / "out") == ["lesion_mask.nii.gz", SUMMARY]
    assert names(around) == ["out"]


def test_an_error_in_the_block_leaves_the_earlier_result_and_nothing_else(around: Path) -> None:
    fill(around / "out", "earlier")
    with pytest.raises(ZeroDivisionError):
        write_and(around / "out", half_written=".part-report.html", error=ZeroDivisionError())
    assert mask_of(around / "out") == "earlier"
    assert names(around) == ["out"]


def test_parents_are_made_and_after_an_error_taken_away_again(around: Path) -> None:
    place = around / "one" / "two" / "out"
    write(place)
    assert mask_of(place) == "new"
    (around / "three").mkdir()
    with pytest.raises(ZeroDivisionError), writing(around / "three" / "four" / "five" / "out"):
        _ = 1 / 0
    assert names(around) == ["one", "three"]
    assert names(around / "three") == []


def test_parents_that_somebody_else_began_to_use_stay(around: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write_and(around / "one" / "two" / "out", theirs=around / "one" / "notes.txt", error=ZeroDivisionError())
    assert names(around / "one") == ["notes.txt"]


def test_a_block_that_forgets_the_summary_is_a_bug_and_writes_nothing(around: Path) -> None:
    fill(around / "out", "earlier")
    with pytest.raises(RuntimeError, match="without its summary"), writing(around / "out") as partial:
        (partial / "lesion_mask.nii.gz").write_text("new", encoding="utf-8")
    assert mask_of(around / "out") == "earlier"
    assert names(around) == ["out"]


def refused(place: Path, cause: str) -> InputError:
    """Both doors refuse the place, with the same words."""
    with pytest.raises(InputError, match=cause) as seen:
        check_place(place)
    with pytest.raises(InputError, match=cause), writing(place):
        pytest.fail("the block was entered")
    assert seen.value.exit_code == 3
    assert seen.value.title
    assert seen.value.next_step
    return seen.value


def test_a_file_is_not_replaced(around: Path) -> None:
    (around / "out").write_text("mine", encoding="utf-8")
    refused(around / "out", "'out' is a file")
    assert (around / "out").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("target", ["result", "nothing"])
def test_a_link_is_not_replaced_wherever_it_leads(around: Path, target: str) -> None:
    fill(around / "result", "earlier")
    (around / "out").symlink_to(around / target)
    refused(around / "out", "'out' is a link")
    assert (around / "out").is_symlink()
    assert mask_of(around / "result") == "earlier"


def test_a_link_on_the_way_is_followed(around: Path) -> None:
    (around / "real" / "deep").mkdir(parents=True)
    (around / "link").symlink_to(around / "real" / "deep")
    write(around / "link" / "out")
    # The system's reading of "..": from where the link leads to.
    write(around / "link" / ".." / "beside")
    assert names(around / "real") == ["beside", "deep"]
    assert names(around / "real" / "deep") == ["out"]


def test_somebodys_folder_is_not_replaced_and_its_things_are_named(around: Path) -> None:
    for name in ("d.txt", "a.txt", "c.txt", "b.txt"):
        (around / "out").mkdir(exist_ok=True)
        (around / "out" / name).write_text("mine", encoding="utf-8")
    refused(around / "out", "it holds 'a.txt', 'b.txt', 'c.txt' and 1 more")
    assert names(around / "out") == ["a.txt", "b.txt", "c.txt", "d.txt"]


@pytest.mark.parametrize("extra", ["notes.txt", "sub/page.txt", "lesions.csv.bak", ".DS_Store"])
def test_an_earlier_result_with_something_of_the_users_in_it_is_not_replaced(around: Path, extra: str) -> None:
    fill(around / "out", "earlier")
    path = around / "out" / extra
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine", encoding="utf-8")
    refused(around / "out", re.escape(extra.split("/", maxsplit=1)[0]))
    assert mask_of(around / "out") == "earlier"
    assert path.read_text(encoding="utf-8") == "mine"


def test_a_link_with_a_name_of_ours_inside_a_result_is_the_users(around: Path) -> None:
    fill(around / "out", "earlier")
    (around / "precious").write_text("mine", encoding="utf-8")
    (around / "out" / "lesions.csv").symlink_to(around / "precious")
    refused(around / "out", r"lesions\.csv")
    assert (around / "precious").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("summary", [None, "", '{"strokeseg_ver', "[1, 2]", '{"format": 1}'])
def test_files_with_our_names_but_without_our_summary_are_not_replaced(around: Path, summary: str | None) -> None:
    (around / "out").mkdir()
    (around / "out" / "lesions.csv").write_text("mine", encoding="utf-8")
    if summary is not None:
        (around / "out" / SUMMARY).write_text(summary, encoding="utf-8")
    refused(around / "out", "without a readable summary")
    assert (around / "out" / "lesions.csv").read_text(encoding="utf-8") == "mine"


def test_a_file_on_the_way_is_said(around: Path) -> None:
    (around / "scan.nii").write_text("mine", encoding="utf-8")
    refused(around / "scan.nii" / "deep" / "out", "'scan.nii' on the way to 'out' is a file")


@pytest.mark.parametrize("place", [".", "..", "../around", "./", "", "/"])
def test_the_working_folder_and_what_holds_it_are_not_replaced(
    around: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(around)
    error = refused(Path(place), "working folder")
    assert "result" in error.next_step
    assert names(around) == []


def test_relative_places_and_trailing_slashes(around: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(around)
    write(Path("out/"), "first")
    write(Path("./deep/../out"), "second")
    assert mask_of(around / "out") == "second"
    assert names(around) == ["out"]


def test_a_mount_point_is_refused_before_any_work(around: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (around / "out").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path).endswith("out"))
    assert "out/result" in refused(around / "out", "mount point").next_step


def test_a_name_that_is_too_long_is_refused_before_any_work(around: Path) -> None:
    assert "shorter" in refused(around / ("脑" * 80), "has 240 bytes").next_step


def test_a_full_disk_is_said_and_leaves_the_earlier_result(around: Path) -> None:
    fill(around / "out", "earlier")
    with pytest.raises(InputError, match="full") as seen:
        write_and(around / "out", error=OSError(errno.ENOSPC, "no space"))
    assert seen.value.exit_code == 3
    assert mask_of(around / "out") == "earlier"
    assert names(around) == ["out"]


def test_other_failures_of_the_system_are_said_with_its_reason(around: Path) -> None:
    with pytest.raises(InputError, match="Input/output error"), writing(around / "out"):
        raise OSError(errno.EIO, "broken disk")
    assert names(around) == []


AS_NOBODY = """
import os, sys
from pathlib import Path
from strokeseg.errors import InputError
from strokeseg.results import check_place
os.setgid(65534), os.setuid(65534)
for place in sys.argv[1:]:
    try:
        check_place(Path(place))
        print("allowed")
    except InputError as error:
        print(error)
"""


def test_folders_without_permission_are_refused_before_any_work(tmp_path: Path) -> None:
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("SKIPPED: only root can try permissions as another user")
    around, closed, own = tmp_path / "around", tmp_path / "closed", tmp_path / "around" / "own"
    for folder, mode in ((around, 0o755), (closed, 0o700), (own, 0o777)):
        folder.mkdir()
        folder.chmod(mode)
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        folder.chmod(folder.stat().st_mode | 0o005)
    places = [around / "out", around / "new" / "out", own, closed / "out", own / "out"]
    run = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, *map(str, places)],
        capture_output=True,
        encoding="utf-8",
        cwd="/",
        check=False,
    )
    if "ModuleNotFoundError" in run.stderr or "PermissionError: [Errno 13]" in run.stderr:
        pytest.skip("SKIPPED: another user cannot import strokeseg here")
    said = run.stdout.splitlines()
    assert len(said) == 5, run.stderr
    assert "You may not write to 'around', the folder around 'out'" in said[0]
    assert "You may not write to 'around'" in said[1]
    assert f"a folder inside it, for example '{own / 'result'}'" in said[2]
    assert "cannot be written" in said[3] or "could not be written" in said[3]
    assert said[4] == "allowed"


def test_a_file_that_somebody_puts_in_during_the_run_is_not_deleted(around: Path) -> None:
    fill(around / "out", "earlier")
    with pytest.raises(InputError, match=r"notes\.txt"):
        write_and(around / "out", theirs=around / "out" / "notes.txt")
    assert names(around) == ["out"]
    assert mask_of(around / "out") == "earlier"
    assert (around / "out" / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_file_that_slips_in_between_the_renames_survives(around: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(around / "out", "earlier")
    original = Path.rename

    def slip(self: Path, target: Path) -> Path:
        moved = original(self, target)
        if ".previous-" in target.name:
            (target / "notes.txt").write_text("mine", encoding="utf-8")
        return moved

    monkeypatch.setattr(Path, "rename", slip)
    write(around / "out")
    monkeypatch.undo()
    assert mask_of(around / "out") == "new"
    kept = next(p for p in around.iterdir() if ".previous-" in p.name)
    assert names(kept) == ["notes.txt"]


def test_when_the_second_rename_fails_the_earlier_result_comes_back(
    around: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(around / "out", "earlier")
    original = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name.startswith(".partial-"):
            raise KeyboardInterrupt
        return original(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(KeyboardInterrupt):
        write(around / "out")
    assert mask_of(around / "out") == "earlier"
    assert names(around) == ["out"]


def test_the_summary_goes_first_when_a_result_is_deleted(around: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(around / "out", "earlier")
    gone: list[str] = []
    original = Path.unlink

    def note(self: Path, missing_ok: bool = False) -> None:
        gone.append(self.name)
        original(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", note)
    write(around / "out")
    assert gone == [SUMMARY, "lesion_mask.nii.gz"]


def test_bytes_are_on_the_disk_before_the_names_change(around: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, rename = os.fsync, Path.rename

    def noted_sync(number: int) -> None:
        order.append("sync")
        sync(number)

    def noted_rename(self: Path, target: Path) -> Path:
        order.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    write(around / "out")
    # Two files and their folder, then the rename, then the folder around it.
    assert order == (["sync"] * 3 + ["rename", "sync"] if os.name == "posix" else ["sync"] * 2 + ["rename"])


def test_an_earlier_result_that_cannot_be_deleted_now_goes_with_the_next_run(
    around: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(around / "out", "earlier")

    def locked(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(errno.EACCES, "somebody reads it")

    monkeypatch.setattr(Path, "unlink", locked)
    write(around / "out")
    monkeypatch.undo()
    assert mask_of(around / "out") == "new"
    assert len(names(around)) == 2
    write(around / "out", "newer")
    assert names(around) == ["out"]


def test_a_folder_is_complete_by_its_summary_alone_and_a_result_only_with_nothing_else(around: Path) -> None:
    folder = fill(around / "out", "x")
    (folder / "notes.txt").write_text("", encoding="utf-8")
    assert is_complete(folder)
    assert not is_result(folder)
    assert not is_complete(around / "nothing")
