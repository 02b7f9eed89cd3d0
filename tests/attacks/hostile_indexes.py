"""Changes a `zoo.json` as no honest writer would."""

import copy
import json
import random
from collections.abc import Callable
from typing import Any

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**63, 2**200, 1.5, 3.0, float("nan"), float("inf")),
    *("", "x", "train", "../x", "/etc/passwd", "zoo.json", ".", "\ud800", "\x00", "x" * 100_000),
    *([], {}, [1], {"a": 1}, [[]] * 1_000),
)
DEEP = 100_000

Index = dict[str, Any]


def hostile_index(text: str, seed: int) -> bytes:
    """One or two changes to the text of an index."""
    draw = random.Random(f"index {seed}")
    index = json.loads(text)
    for _ in range(draw.choice((1, 1, 2))):
        draw.choice((_change_field, _change_field, _change_rows, _change_top))(index, draw)
    data = json.dumps(index).encode()
    return draw.choice(TEXT_CHANGES)(data, draw) if draw.random() < 0.35 else data


def _change_field(index: Index, draw: random.Random) -> None:
    """Another value in a row, none, or one more."""
    rows = index.get("shards")
    row = draw.choice(rows) if isinstance(rows, list) and rows else {}
    if not isinstance(row, dict) or not row:
        return
    name = draw.choice(list(row))
    kind = draw.random()
    if kind < 0.1:
        row.pop(name)
    elif kind < 0.2:
        row["more"] = draw.choice(ODD)
    elif kind < 0.4:
        row[name] = next(other.get(name) for other in rows[::-1] if isinstance(other, dict))
    elif kind < 0.6 and isinstance(row[name], int):
        row[name] += draw.choice((1, -1, row[name]))
    else:
        row[name] = draw.choice(ODD)


def _change_rows(index: Index, draw: random.Random) -> None:
    """A row twice, missing, or all in one of another kind."""
    rows = index.get("shards")
    if not isinstance(rows, list) or not rows:
        return
    change = draw.randrange(4)
    if change == 0:
        rows.append(copy.deepcopy(draw.choice(rows)))
    elif change == 1:
        rows.pop(draw.randrange(len(rows)))
    elif change == 2:
        again = copy.deepcopy(draw.choice(rows))
        if isinstance(again, dict) and isinstance(again.get("path"), str):
            again["path"] = f"./{again['path']}"
        rows.append(again)
    else:
        rows[draw.randrange(len(rows))] = draw.choice(ODD)


def _change_top(index: Index, draw: random.Random) -> None:
    """Another value of a top-level key, none, or one more."""
    name = draw.choice(list(index) or ["name"])
    if draw.random() < 0.2:
        index.pop(name, None)
    elif draw.random() < 0.2:
        index["more"] = draw.choice(ODD)
    else:
        index[name] = draw.choice((*ODD, "0.9", "1.0", "1.7", "2.0", "1", "1.x", 1.1))


def _cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def _flip(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]


def _nest(data: bytes, draw: random.Random) -> bytes:
    return b'{"more": ' + b"[" * DEEP + b"]" * DEEP + b", " + data[1:]


def _lengthen(data: bytes, draw: random.Random) -> bytes:
    return data.replace(b'"rows": ', b'"rows": ' + b"9" * draw.choice((30, 5_000)), 1)


def _repeat(data: bytes, draw: random.Random) -> bytes:
    return data[:-1] + b', "shards": []}'


TEXT_CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_cut, _flip, _flip, _nest, _lengthen, _repeat),
    lambda data, draw: b"\xef\xbb\xbf" + data,
    lambda data, draw: data + b"\xff",
    lambda data, draw: b"",
    lambda data, draw: data.decode().encode("utf-16"),
)
