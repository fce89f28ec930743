"""Which side of the body the names of structures say, in the spellings that datasets have.

Words are split at everything but letters and digits and at camel case, whatever their case: "left kidney",
"LeftKidney", "PAROTID-RT" and "kidney_sin" have a side, "vertebrae_L5", "lower_lobe" and "bright" have none. What might
mean something else, a single letter ("Kidney_L") or a word run together ("leftkidney"), counts only beside its partner
("Kidney_R") or an organ of which there are two.

The chambers of the heart by their abbreviations (LV, RV, LA, RA) have no side here. They are no mirror images of each
other, their shapes tell them apart, and nnU-Net's own trainings on cardiac images flip them. Written out
(heart_ventricle_left) they have one.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Side = Literal["left", "right"]
SIDE_WORDS: dict[str, Side] = {
    **dict.fromkeys(("left", "lt", "lh", "sin", "sinister", "sinistra", "sinistrum"), "left"),
    **dict.fromkeys(("right", "rt", "rh", "dex", "dext", "dexter", "dextra", "dextrum"), "right"),
}
SIDE_LETTERS: dict[str, Side] = {"l": "left", "r": "right"}
_Way = Literal["word", "letter", "run-together word", "run-together letter"]
_Partner = tuple[Side, tuple[str, ...]]
_RUN_TOGETHER: dict[str, Side] = {"left": "left", "right": "right", **SIDE_LETTERS}
_OPPOSITE: dict[Side, Side] = {"left": "right", "right": "left"}

# How the words begin that name organs with a left and a right one, as the field does (TG-263, TotalSegmentator).
_PAIRED_ORGAN = re.compile(
    r"kidney|renal|adrenal|suprarenal|ureter|lung|pulmo|bronch|pleura|lobe|lobus|breast|mamm|chestwall|axill"
    r"|supraclav|ln|ovar|testis|testic|gonad|semin|eye|orbit|optic|retina|lens|cornea|globe|pupil|lacrimal|ear"
    r"|cochlea|vestib|mastoid|parot|submand|subling|saliv|gland|glnd|tonsil|maxill|mandib|zygom|condyl|tmj"
    r"|sinus|masset|pterygo|temporal|frontal|parietal|occipital|insula|cingul|hemis|cerebr|cerebel|brain"
    r"|cortex|hippoc|amygdal|thalam|caudate|putamen|pallid|accumb|carot|jugular|subclav|brachi|plexus|coronar"
    r"|iliac|ilium|iliop|psoas|glute|hip|hemi|acetab|sacroil|ischi|pubi|femur|femor|pelvi|thigh|tibia|fibul"
    r"|patell|menisc|cartil|knee|ankle|foot|humer|scapula|clavic|shoulder|elbow|radius|ulna|wrist|hand|rib|arm"
    r"|leg|limb|atri|ventric|auric|autocht|trapez|sternocl|scalen|levator|erector|quadrat|latissi|pector|neck"
    r"|lymph|node|arter|vein|nerve|musc"
)
_SPLIT = re.compile(
    r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"  # left kidney, kidneyLeft, LKidney
    r"|(?i:(?:(?<=left)|(?<=right))(?=[0-9])|(?<=[0-9])(?=left|right))"  # left1; L1 stays one word
)


@dataclass(frozen=True)
class Sides:
    """What a set of names says about sides.

    Attributes:
        of: name -> its side, for those that have one.
        pairs: (right, left) names that differ in nothing else, such as (kidney_right, kidney_left).
        by_letter: names whose side is not a word of its own: a single letter or a word run together decided.
        doubtful: names that may mean a side, but were not taken to.
    """

    of: dict[str, Side]
    pairs: tuple[tuple[str, str], ...]
    by_letter: tuple[str, ...]
    doubtful: tuple[str, ...]

    @property
    def single(self) -> tuple[str, ...]:
        """Names with a side that are not in a pair."""
        in_pairs = {name for pair in self.pairs for name in pair}
        return tuple(name for name in self.of if name not in in_pairs)


class _Reading(NamedTuple):
    """One way to read a side out of a name: the side, and the other words."""

    side: Side
    rest: tuple[str, ...]
    way: _Way

    @property
    def partner(self) -> _Partner:
        return _OPPOSITE[self.side], self.rest

    @property
    def names_organ(self) -> bool:
        return any(_PAIRED_ORGAN.match(word) for word in self.rest)


def words_of(name: str) -> list[str]:
    """Return the words of a name in small letters: ["left", "kidney"] of "LeftKidney"."""
    return [word.casefold() for word in _SPLIT.split(name) if word]


def sides_of(names: Iterable[str], beside: Iterable[str] = ()) -> Sides:
    """Return which of some names have a side; what one means can depend on the others, and on those beside them."""
    readings = {name: list(_readings(words_of(name))) for name in dict.fromkeys(names)}
    others = [reading for name in beside for reading in _readings(words_of(name))]
    known = {(reading.side, reading.rest) for found in (*readings.values(), others) for reading in found}
    decided = {name: reading for name, found in readings.items() if (reading := _decisive(found, known))}
    return Sides(
        of={name: reading.side for name, reading in decided.items()},
        pairs=_pairs(decided),
        by_letter=tuple(name for name, reading in decided.items() if reading.way != "word"),
        doubtful=tuple(name for name, found in readings.items() if _is_doubtful(found, known)),
    )


def _readings(words: Sequence[str]) -> Iterator[_Reading]:
    for index, word in enumerate(words):
        before, after = tuple(words[:index]), tuple(words[index + 1 :])
        if word in SIDE_WORDS:
            yield _Reading(SIDE_WORDS[word], before + after, "word")
        elif word in SIDE_LETTERS:
            yield _Reading(SIDE_LETTERS[word], before + after, "letter")
        else:
            for side_word, side in _RUN_TOGETHER.items():
                for rest in (word.removeprefix(side_word), word.removesuffix(side_word)):
                    if rest != word:
                        way: _Way = "run-together letter" if side_word in SIDE_LETTERS else "run-together word"
                        yield _Reading(side, (*before, rest, *after), way)


def _decisive(found: Sequence[_Reading], known: set[_Partner]) -> _Reading | None:
    """Return the reading that holds; none where a name says both sides, as "left and right kidney" does."""
    sure = [reading for reading in found if reading.way == "word"]
    holding = sure or [reading for reading in found if _holds(reading, known)]
    return holding[0] if len({reading.side for reading in holding}) == 1 else None


def _holds(reading: _Reading, known: set[_Partner]) -> bool:
    speaks = (reading.partner in known, reading.names_organ)
    return all(speaks) if reading.way == "run-together letter" else any(speaks)


def _is_doubtful(found: Sequence[_Reading], known: set[_Partner]) -> bool:
    """Return whether a name has no side although something of it may be one: a lone letter, LK beside RK."""
    if any(reading.way == "word" or _holds(reading, known) for reading in found):
        return False
    return any(reading.way == "letter" or reading.partner in known for reading in found)


def _pairs(decided: dict[str, _Reading]) -> tuple[tuple[str, str], ...]:
    left = [(name, reading) for name, reading in decided.items() if reading.side == "left"]
    return tuple(
        (name, other)
        for name, reading in decided.items()
        if reading.side == "right"
        for other, its in left
        if its.rest == reading.rest
    )
