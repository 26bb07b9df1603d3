"""The words of a clip: their mirror, those of file names, and those of an index."""

from __future__ import annotations

from pathlib import Path

import pytest

from sc_loops.motion.importing.captions import by_ending, from_file_name, looked_up, mirrored_words, read_index


@pytest.mark.parametrize(
    ("text", "mirror"),
    [
        ("a person raises the left hand", "a person raises the right hand"),
        ("Left, then RIGHT.", "Right, then LEFT."),
        ("walk-turn-left", "walk-turn-right"),
        ("turns clockwise, then counterclockwise", "turns counterclockwise, then clockwise"),
        ("turns counter-clockwise", "turns clockwise"),
        ("a left-handed throw; the lefthanded one", "a right-handed throw; the righthanded one"),
        ("copyright and cleft are left alone", "copyright and cleft are right alone"),
    ],
)
def test_a_mirror_swaps_words(text: str, mirror: str) -> None:
    assert mirrored_words(text) == mirror


def test_names_of_files_tell_what_is_shown() -> None:
    bandai = from_file_name("a/dataset-2_walk-turn-left_not-confident_036.bvh")
    assert bandai is not None
    assert bandai.captions == ("a person walks and turns left in a not confident style",)
    assert bandai.action == "walk-turn-left"
    lafan = from_file_name("lafan1/fallAndGetUp1_subject4.bvh")
    assert lafan is not None
    assert lafan.captions == ("a person falls and gets up",)
    assert lafan.action == "fall-and-get-up"
    assert from_file_name("02/02_01.amc") is None


def test_an_index_is_looked_up_by_the_end_of_a_path(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    path.write_text(
        "clip,captions,action,fps\nset/a/one.bvh,walks|  walks slowly ,walk,60\nset/b/one.bvh,runs,run,\n"
        "set/b/two.bvh,,sit,\nset/b/two.bvh,sits,,\n"
    )
    endings = by_ending(read_index(path, "any"))
    one, two = looked_up(endings, "elsewhere/a/one.bvh"), looked_up(endings, "two.bvh")
    assert one is not None
    assert (one.captions, one.action, one.fps) == (("walks", "walks slowly"), "walk", 60)
    assert two is not None
    assert two.captions == ("sits",)
    assert looked_up(endings, "one.bvh") is None  # there are two
