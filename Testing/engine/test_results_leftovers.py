"""What dead runs leave beside a place is finished, undone or deleted by the next one; what living ones write is not.

Folders that are not surely ours stay, whatever their names say.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from strokeseg import results
from strokeseg.errors import InputError
from strokeseg.results import SUMMARY, abandon, check_place, recover, writing

# A process number that no process has (above Linux's largest), and a start time in ms.
DEAD = "4194001-1600000000000"
SUMMARY_TEXT = '{"strokeseg_version": "0.1.0"}\n'


@pytest.fixture
def around(tmp_path: Path) -> Path:
    folder = tmp_path / "around"
    folder.mkdir()
    return folder


def write(place: Path, mask: str = "new") -> None:
    with writing(place) as partial:
        fill(partial, mask)


def fill(folder: Path, mask: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lesion_mask.nii.gz").write_text(mask, encoding="utf-8")
    (folder / SUMMARY).write_text(SUMMARY_TEXT, encoding="utf-8")
    return folder


def mask_of(place: Path) -> str:
    return (place / "lesion_mask.nii.gz").read_text(encoding="utf-8")


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def own_run() -> str:
    return f"{os.getpid()}-{int(psutil.Process().create_time() * 1000):013d}"


def leave(around: Path, name: str, mask: str, *, complete: bool = True) -> Path:
    folder = fill(around / name, mask)
    if not complete:
        (folder / SUMMARY).unlink()
    return folder


@pytest.mark.parametrize("repair", [recover, check_place])
def test_a_swap_killed_between_its_renames_is_finished(around: Path, repair: object) -> None:
    leave(around, f"out.previous-{DEAD}", "earlier")
    leave(around, f".partial-out-{DEAD}", "new")
    assert callable(repair)
    repair(around / "out")
    assert mask_of(around / "out") == "new"
    assert names(around) == ["out"]


def test_a_swap_whose_new_result_is_gone_is_undone(around: Path) -> None:
    leave(around, f"out.previous-{DEAD}", "earlier")
    leave(around, f".partial-out-{DEAD}", "half", complete=False)
    recover(around / "out")
    assert mask_of(around / "out") == "earlier"
    assert names(around) == ["out"]


def test_a_new_result_of_another_run_than_the_swap_is_not_trusted(around: Path) -> None:
    leave(around, f"out.previous-{DEAD}", "earlier")
    leave(around, ".partial-out-4194002-1600000000000", "not on the disk yet")
    recover(around / "out")
    assert mask_of(around / "out") == "earlier"
    assert names(around) == ["out"]


def test_an_unfinished_result_of_a_dead_run_is_deleted_with_its_half_written_files(around: Path) -> None:
    fill(around / "out", "earlier")
    partial = leave(around, f".partial-out-{DEAD}", "half", complete=False)
    (partial / ".part-lesion_probability.nii.gz").write_text("half", encoding="utf-8")
    recover(around / "out")
    assert names(around) == ["out"]


def test_a_half_deleted_earlier_result_is_deleted_wholly(around: Path) -> None:
    fill(around / "out", "new")
    leave(around, f"out.previous-{DEAD}", "half", complete=False)
    recover(around / "out")
    assert names(around) == ["out"]
    assert mask_of(around / "out") == "new"


def test_a_half_deleted_result_never_comes_back_as_a_whole_one(around: Path) -> None:
    leave(around, f"out.previous-{DEAD}", "half", complete=False)
    recover(around / "out")
    assert names(around) == []


def test_of_several_earlier_results_the_latest_comes_back_and_the_others_go(around: Path) -> None:
    # Process numbers do not rise with time: the start time decides.
    leave(around, "out.previous-4194002-1500000000000", "older")
    leave(around, "out.previous-4194001-1600000000000", "latest")
    recover(around / "out")
    assert mask_of(around / "out") == "latest"
    assert names(around) == ["out"]


def test_an_earlier_result_is_kept_while_no_whole_one_stands(around: Path) -> None:
    (around / "out").mkdir()
    (around / "out" / "notes.txt").write_text("mine", encoding="utf-8")
    leave(around, f"out.previous-{DEAD}", "earlier")
    recover(around / "out")
    assert names(around) == ["out", f"out.previous-{DEAD}"]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("out.previous-123-456", ["lesions.csv"]),
        (".partial-out-1-2", ["lesion_mask.nii.gz", SUMMARY]),
        (f"out.previous-{DEAD}", ["notes.txt"]),
        (f"out.previous-{DEAD}", ["lesion_mask.nii.gz", SUMMARY, "notes.txt"]),
        (f".partial-out-{DEAD}", [".part-notes.txt"]),
        (f".partial-out-{DEAD}", ["lesions.csv/page.txt"]),
        (f".partial-other-{DEAD}", ["lesions.csv"]),
        (f".partial-out-5-{DEAD}", ["lesions.csv"]),
        (f"outer.previous-{DEAD}", ["lesions.csv"]),
    ],
)
@pytest.mark.parametrize("earlier", [True, False])
def test_folders_that_are_not_surely_ours_are_left_alone(
    around: Path, name: str, files: list[str], earlier: bool
) -> None:
    for file in files:
        path = around / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SUMMARY_TEXT if file == SUMMARY else "mine", encoding="utf-8")
    before = {p: p.read_bytes() for p in (around / name).rglob("*") if p.is_file()}
    if earlier:
        fill(around / "out", "earlier")
    write(around / "out")
    assert {p: p.read_bytes() for p in (around / name).rglob("*") if p.is_file()} == before
    assert len(before) == len(files)
    assert names(around) == sorted([name, "out"])


@pytest.mark.parametrize("name", [f"out.previous-{DEAD}", f".partial-out-{DEAD}"])
def test_links_named_as_ours_are_left_alone(around: Path, name: str) -> None:
    fill(around / "treasure", "mine")
    (around / name).symlink_to(around / "treasure")
    write(around / "out")
    assert (around / name).is_symlink()
    assert mask_of(around / "treasure") == "mine"


@pytest.fixture
def other_process() -> Iterator[str]:
    """A process that lives during the test, as the name of a run."""
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        yield f"{process.pid}-{int(psutil.Process(process.pid).create_time() * 1000):013d}"
    finally:
        process.communicate()


@pytest.mark.parametrize("name", [".partial-out-{}", "out.previous-{}"])
def test_a_place_where_a_living_process_writes_is_refused(around: Path, name: str, other_process: str) -> None:
    fill(around / "out", "earlier")
    folder = leave(around, name.format(other_process), "in work", complete=False)
    for door in (check_place, recover, write):
        with pytest.raises(InputError, match=r"Another run is writing to 'out'.*still running"):
            door(around / "out")
    assert mask_of(folder) == "in work"
    assert mask_of(around / "out") == "earlier"


def test_a_process_that_has_only_the_number_of_a_dead_run_does_not_count(around: Path, other_process: str) -> None:
    number = other_process.split("-", maxsplit=1)[0]
    leave(around, f".partial-out-{number}-1600000000000", "half", complete=False)
    write(around / "out")
    assert names(around) == ["out"]


def test_a_second_writer_in_the_same_process_is_refused_and_the_first_ends_whole(around: Path) -> None:
    place = around / "out"
    seen: list[Exception] = []

    def second() -> None:
        try:
            write(place, "second")
        except InputError as error:
            seen.append(error)

    with writing(place) as partial:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        fill(partial, "first")
    assert len(seen) == 1
    assert "Another run is writing to 'out'" in str(seen[0])
    assert mask_of(place) == "first"
    assert names(around) == ["out"]


def test_of_two_writers_that_both_found_the_place_free_one_is_refused(
    around: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = around / "out"
    with writing(place) as partial:
        fill(partial, "first")
        with monkeypatch.context() as context:
            context.setattr(results, "check_place", lambda _: None)
            with pytest.raises(InputError, match="This program is already writing"):
                write(place, "second")
    assert mask_of(place) == "first"
    assert names(around) == ["out"]


def test_what_this_process_left_behind_itself_is_cleaned_up(around: Path) -> None:
    leave(around, f".partial-out-{own_run()}", "half", complete=False)
    write(around / "out")
    assert names(around) == ["out"]


def test_what_this_process_writes_is_abandoned_and_a_run_that_wakes_up_cannot_put_it_in_place(around: Path) -> None:
    fill(around / "out", "earlier")

    def write_and_abandon() -> None:
        with writing(around / "out") as partial:
            fill(partial, "new")
            for name in (f"out-{DEAD}", "out-notes"):
                leave(around, f".partial-{name}", "not this process's", complete=False)
            abandon(around / "out")
            assert names(around) == sorted([f".partial-out-{DEAD}", ".partial-out-notes", "out"])

    with pytest.raises(InputError, match="could not be written"):
        write_and_abandon()
    assert mask_of(around / "out") == "earlier"
    abandon(around / "nothing" / "here")


def test_places_beside_each_other_do_not_disturb_each_other(around: Path) -> None:
    with writing(around / "a") as first, writing(around / "a-1") as second:
        fill(first, "first")
        fill(second, "second")
        assert first != second
    assert (mask_of(around / "a"), mask_of(around / "a-1")) == ("first", "second")
    assert names(around) == ["a", "a-1"]
