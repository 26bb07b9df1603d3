"""What a clip shows, in words: from the row of an index, or from labels in the name of its file."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sc_loops.errors import InvalidValue, require


@dataclass(frozen=True)
class Labels:
    """What is known of a clip beside its motion.

    Attributes:
        captions: sentences or words; may be empty.
        action: the name of what is done, or "".
        fps: frames a second, or None where nothing says.
        licence: of the clip, or "".
        source: where it came from, or "".
    """

    captions: tuple[str, ...]
    action: str = ""
    fps: float | None = None
    licence: str = ""
    source: str = ""


# The index.

_CAPTIONS, _ACTIONS = ("description", "caption", "captions", "text"), ("content", "action", "label")


def read_index(path: Path, archive: str) -> dict[str, Labels]:
    """The labels in a CSV by clip. Of an index of several archives (a column ``archive``) the rows of ``archive`` are
    taken, if it has any.

    Columns: ``clip``, and any of ``description`` (``caption``, ``text``; ``captions`` holds several with ``|``
    between them), ``content`` (``action``, ``label``), ``fps``, ``licence``, ``source``. Several rows of one clip add
    their captions.

    Raises:
        InvalidValue: the file cannot be read, or has no column ``clip``.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            rows = [row for row in reader if row.get("clip")]
    except (OSError, UnicodeError, csv.Error) as error:
        raise InvalidValue("--index", found=f"{str(path)!r}: {error}", expected="a CSV file") from error
    require(
        "clip" in columns, "--index", ", ".join(columns), "a CSV with the columns clip, description, content, ..."
    )
    own = [row for row in rows if row.get("archive") == archive] or rows
    index: dict[str, Labels] = {}
    for row in own:
        labels, before = _of_row(row), index.get(row["clip"])
        if before is not None:
            captions = tuple(dict.fromkeys((*before.captions, *labels.captions)))
            labels = Labels(captions, before.action, before.fps, before.licence, before.source)
        index[row["clip"]] = labels
    return index


def _of_row(row: dict[str, str]) -> Labels:
    captions: list[str] = []
    for column in _CAPTIONS:
        value = row.get(column) or ""
        captions += value.split("|") if column == "captions" else [value]
    return Labels(
        tuple(dict.fromkeys(tidy for caption in captions if (tidy := " ".join(caption.split())))),
        next((row[column].strip() for column in _ACTIONS if (row.get(column) or "").strip()), ""),
        _rate(row) if row.get("fps") else None,
        (row.get("licence") or row.get("license") or "").strip(),
        (row.get("source") or "").strip(),
    )


def _rate(row: dict[str, str]) -> float:
    try:
        fps = float(row["fps"])
    except ValueError:
        fps = math.nan
    if not 0 < fps < math.inf:
        raise InvalidValue("--index", found=f"fps {row['fps']!r} of {row['clip']}", expected="a number > 0")
    return fps


def by_ending(index: dict[str, Labels]) -> dict[str, Labels]:
    """The index under each clip's path, and under every ending of it that belongs to that clip alone, with and
    without the file's suffix: folders above may differ between an archive and where it was unpacked."""
    found: dict[str, Labels | None] = {}
    for clip, labels in index.items():
        parts = PurePosixPath(clip).parts
        for start in range(len(parts)):
            path = PurePosixPath(*parts[start:])
            for name in {str(path), str(path.with_suffix(""))}:
                found[name] = None if name in found else labels
    found.update(index)
    return {name: labels for name, labels in found.items() if labels is not None}


def looked_up(endings: dict[str, Labels], path: str) -> Labels | None:
    """The labels of the clip at ``path``: by the longest ending of it that the index knows."""
    parts = PurePosixPath(path).parts
    for start in range(len(parts)):
        ending = PurePosixPath(*parts[start:])
        for name in (str(ending), str(ending.with_suffix(""))):
            if name in endings:
                return endings[name]
    return None


# The file's name.

_PHRASES = {
    "bye": "waves goodbye", "byebye": "waves bye-bye", "call": "calls out to someone", "dance-short": "dances",
    "dance-long": "dances", "guide": "guides someone with a gesture", "walk-back": "walks backwards",
    "walk-left": "walks to the left", "walk-right": "walks to the right", "raise-up-both-hands": "raises both hands",
    "raise-up-left-hand": "raises the left hand", "raise-up-right-hand": "raises the right hand",
    "walk-turn-left": "walks and turns left", "walk-turn-right": "walks and turns right",
    "wave-both-hands": "waves both hands", "wave-left-hand": "waves the left hand",
    "wave-right-hand": "waves the right hand", "aiming": "aims", "jumps": "jumps", "ground": "moves on the ground",
    "fall-and-get-up": "falls and gets up", "fight-and-sports": "fights and does sports",
    "multiple-actions": "does several things", "obstacles": "walks over obstacles", "push": "pushes something",
    "push-and-fall": "is pushed and falls", "push-and-stumble": "is pushed and stumbles",
}  # fmt: skip

_BANDAI = re.compile(r"dataset-\d+_(?P<content>[a-z0-9-]+)_(?P<style>[a-z-]+)_\d+")
_LAFAN1 = re.compile(r"(?P<content>[A-Za-z]+)\d+_subject\d+")


def from_file_name(path: str) -> Labels | None:
    """Labels of a clip that is called as Bandai-Namco's (``dataset-1_bow_happy_001``) or LaFAN1's
    (``walk1_subject5``) are, or None."""
    stem = PurePosixPath(path).stem
    if match := _BANDAI.fullmatch(stem):
        content, style = match["content"], match["style"]
    elif match := _LAFAN1.fullmatch(stem):
        content, style = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", match["content"]).lower(), ""
    else:
        return None
    phrase = _PHRASES.get(content) or _third_person(content.replace("-", " "))
    return Labels((f"a person {phrase}{_in_style(style)}",), content)


def _in_style(style: str) -> str:
    if style in ("", "normal"):
        return ""
    words = style.replace("-", " ")
    return f" in {'an' if words[0] in 'aeiou' else 'a'} {words} style"


def _third_person(words: str) -> str:
    """ "kick high" to "kicks high"."""
    verb, _, rest = words.partition(" ")
    verb += "es" if verb.endswith(("s", "sh", "ch", "x", "z", "o")) else "s"
    return f"{verb} {rest}".strip()


# Mirrors and tokens.

_OPPOSITE = {"left": "right", "clockwise": "counterclockwise", "leftward": "rightward", "lefty": "righty"}
_OPPOSITE |= {f"{left}s": f"{right}s" for left, right in _OPPOSITE.items() if left in ("left", "leftward")}
_OPPOSITE |= {right: left for left, right in _OPPOSITE.items()}
_OPPOSITE |= {"counter-clockwise": "clockwise", "anticlockwise": "clockwise", "anti-clockwise": "clockwise"}
_SIDED = re.compile(
    rf"(?<![a-zA-Z])({'|'.join(sorted(_OPPOSITE, key=len, reverse=True))})(?=(handed|footed)?(?![a-zA-Z]))",
    re.IGNORECASE,
)


def mirrored_words(text: str) -> str:
    """The text of what a mirror shows: left and right, clockwise and counterclockwise exchanged."""

    def exchanged(match: re.Match[str]) -> str:
        word = _OPPOSITE[match[0].lower()]
        return word.upper() if match[0].isupper() else word.capitalize() if match[0][0].isupper() else word

    return _SIDED.sub(exchanged, text)


def text_file(captions: Iterable[str]) -> str:
    """The captions as HumanML3D keeps them, ``caption#word/POS word/POS#start#end``, all of the whole clip. There is
    no tagger here: every word is ``word/OTHER``, which is what the evaluator of T2M takes unknown kinds for."""
    return "".join(f"{caption}#{_tokens(caption)}#0.0#0.0\n" for caption in (c.replace("#", " ") for c in captions))


def _tokens(caption: str) -> str:
    return " ".join(f"{word}/OTHER" for word in re.findall(r"[a-z0-9']+", caption.lower()))
