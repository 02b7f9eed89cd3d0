"""Writes pickles from a grammar of opcodes: mostly well-formed, seldom what anybody would save.

A program is made value by value: each rule pushes one value, which it may build from others.
Some rules are bombs: short programs that ask for much memory or time.
"""

import io
import math
import pickle
import random
import struct
import zipfile
from collections.abc import Callable

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."  # of torch before 1.6
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
HARMLESS = (
    *("collections OrderedDict", "collections defaultdict", "_codecs encode", "numpy dtype"),
    *("numpy ndarray", "builtins set", "builtins dict", "builtins list", "builtins bytearray"),
    *("numpy.core.multiarray _reconstruct", "numpy._core.multiarray scalar", "pathlib PosixPath"),
    *("numpy._core.numeric _frombuffer", "torch FloatStorage", "torch.storage UntypedStorage"),
    *("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "torch Size"),
    *("torch float32", "torch.storage _load_from_bytes", "argparse Namespace"),
)
HOSTILE = (
    *("os system", "posix system", "builtins eval", "builtins exec", "subprocess Popen"),
    *("builtins getattr", "importlib import_module", "pickle loads", "torch load", "a.b c.d"),
    *("weightzoo.builders.checkpoints.unpickling Sealed", "numpy load"),
    *("builtins open", "os mkdir"),
)
TEXTS = (
    *(b"weight", b"0.bias", b"state_dict", b"storage", b"__class__", b"__reduce__", b"items"),
    *(b"", b"1", b"\xff"),
)
MARKER = "code-ran"  # a folder that a hostile pickle would make
DEEPEST = 5


class Grammar:
    """Makes one program from random numbers.

    Attributes:
        random: where its choices come from.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._memo = 0

    def program(self) -> bytes:
        """A whole pickle, sometimes damaged at the end."""
        draw = self.random
        kind = draw.random()
        body = self._bomb() if kind < 0.2 else self._state_dict() if kind < 0.5 else self._value(0)
        data = b"\x80" + bytes([draw.choice((2, 2, 3, 4, 5))]) + body + b"."
        if draw.random() < 0.1:
            data = data[: draw.randrange(len(data))]
        if draw.random() < 0.1:
            place = draw.randrange(len(data))
            data = data[:place] + bytes([draw.randrange(256)]) + data[place + 1 :]
        return data

    def _value(self, depth: int) -> bytes:
        rules: list[Callable[[int], bytes]] = [self._scalar]
        if depth < DEEPEST:
            rules += [self._sequence, self._mapping, self._call, self._built, self._memoised]
            rules += [self._tensor, self._odd]
        return self.random.choice(rules)(depth + 1)

    def _scalar(self, depth: int) -> bytes:
        draw = self.random
        number, text = draw.choice((0, 1, -1, 255, 2**31 - 1, -(2**31))), self._text()
        return draw.choice(
            (
                b"N",
                b"\x88",
                b"J" + struct.pack("<i", number),
                b"K" + bytes([draw.randrange(256)]),
                b"I%d\n" % number,
                b"L%dL\n" % (number << draw.choice((0, 40, 4000))),
                b"\x8a\xff" + draw.randbytes(255),
                b"\x8b" + struct.pack("<i", 9) + draw.randbytes(9),
                b"G" + struct.pack(">d", draw.choice((0.5, math.nan, math.inf))),
                b"F1e400\n",
                b"X" + struct.pack("<I", len(text)) + text,
                b"\x8c" + bytes([len(text)]) + text,
                b"V" + text + b"\n",
                b"S'" + text + b"'\n",
                b"U" + bytes([len(text)]) + text,
                b"C\x04" + draw.randbytes(4),
                b"\x96" + struct.pack("<Q", 4) + draw.randbytes(4),
            )
        )

    def _text(self) -> bytes:
        names = (
            b"weight",
            b"0.bias",
            b"state_dict",
            b"storage",
            b"__class__",
            b"__reduce__",
            b"",
            b"1",
        )
        return self.random.choice(names)

    def _sequence(self, depth: int) -> bytes:
        values = [self._value(depth) for _ in range(self.random.randrange(4))]
        joined = b"".join(values)
        forms = [b"](" + joined + b"e", b"(" + joined + b"l", b"(" + joined + b"t"]
        forms += [b"\x8f(" + joined + b"\x90", b"(" + joined + b"\x91"]
        if 1 <= len(values) <= 3:
            forms.append(joined + b"\x85\x86\x87"[len(values) - 1 :][:1])
        return self.random.choice(forms)

    def _mapping(self, depth: int) -> bytes:
        pairs = [self._value(depth) + self._value(depth) for _ in range(self.random.randrange(3))]
        joined = b"".join(pairs)
        return self.random.choice((b"}(" + joined + b"u", b"(" + joined + b"d"))

    def _name(self) -> bytes:
        hostile = self.random.random() < 0.15
        module, name = self.random.choice(HOSTILE if hostile else HARMLESS).encode().split(b" ")
        short = [b"\x8c" + bytes([len(part)]) + part for part in (module, name)]
        return self.random.choice((b"c" + module + b"\n" + name + b"\n", b"".join(short) + b"\x93"))

    def _call(self, depth: int) -> bytes:
        """Call what is named, by any of the opcodes that do."""
        values = b"".join(self._value(depth) for _ in range(self.random.randrange(4)))
        arguments = b"(" + values + b"t"
        if self.random.random() < 0.1:
            return b"cos\nmkdir\n" + self._string(MARKER) + b"\x85R"
        named = self.random.choice(HARMLESS).replace(" ", "\n").encode()
        return self.random.choice(
            (
                self._name() + arguments + b"R",
                self._name() + arguments + b"\x81",
                self._name() + arguments + b"}\x92",
                b"(" + self._name() + values + b"o",
                b"(" + values + b"i" + named + b"\n",
            )
        )

    def _built(self, depth: int) -> bytes:
        """Set a state on something."""
        return self._value(depth) + self._value(depth) + b"b"

    def _memoised(self, depth: int) -> bytes:
        if self._memo and self.random.random() < 0.5:
            return b"h" + bytes([self.random.randrange(min(self._memo, 256))])
        self._memo += 1
        store = self.random.choice((b"q" + bytes([(self._memo - 1) % 256]), b"\x94"))
        return self._value(depth) + store

    def _odd(self, depth: int) -> bytes:
        """Opcodes that no honest state dict has."""
        return self.random.choice(
            (
                self._value(depth) + b"2\x86",
                self._value(depth) + self._value(depth) + b"0",
                self._value(depth) + b"Q",
                b"Pany\n",
                b"\x82\x01",
                b"\x97\x98",
                b"0",
                b"1",
                b"h\xff",
                b"\x95" + struct.pack("<Q", self.random.choice((0, 3, 2**40, 2**63))) + b"N",
            )
        )

    def _string(self, text: str) -> bytes:
        return b"X" + struct.pack("<I", len(text)) + text.encode()

    def _integer(self, value: int) -> bytes:
        data = pickle.encode_long(value)
        return b"\x8a" + bytes([len(data)]) + data

    def _integers(self, values: list[int]) -> bytes:
        return b"(" + b"".join(map(self._integer, values)) + b"t"

    def _tensor(self, depth: int, honest: bool = False) -> bytes:
        """A tensor of torch over the one record of four floats; its numbers may be absurd."""
        draw = self.random
        key, count, offset, shape, stride = "0", 4, 0, [2, 2], [2, 1]
        if not honest:
            key = draw.choice(("0", "0", "1", "../0", ""))
            count = draw.choice((4, 0, -1, 2**62))
            offset = draw.choice((0, 1, -1, 2**62))
            shape, stride = draw.choice(
                (
                    ([2, 2], [2, 1]),
                    ([2**200], [1]),
                    ([2**31, 2**31], [0, 0]),
                    ([1] * 70, [1] * 70),
                    ([4], [2**62]),
                    ([-4], [1]),
                    ([0], [1]),
                    ([], []),
                    ([4], [-1]),
                    ([2, 2], [1]),
                    ([10**9], [0]),
                )
            )
        kind = draw.choice(("FloatStorage", "DoubleStorage", "BoolStorage"))
        kind = "FloatStorage" if honest else kind
        storage = b"(" + self._string("storage") + b"ctorch\n" + kind.encode() + b"\n"
        storage += self._string(key) + self._string("cpu") + self._integer(count) + b"tQ"
        rest = self._integer(offset) + self._integers(shape) + self._integers(stride)
        hooks = b"\x89ccollections\nOrderedDict\n)R"
        return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + hooks + b"tR"

    def _state_dict(self) -> bytes:
        """A dict of tensors, honest but for one entry."""
        draw = self.random
        keys = ["layer.weight", "layer.bias", draw.choice(("layer.odd", "layer.weight", "1", ""))]
        body = b"".join(self._string(key) + self._tensor(1, honest=True) for key in keys[:2])
        key = self._integer(1) if draw.random() < 0.2 else self._string(keys[2])
        odd = self._tensor(1) if draw.random() < 0.7 else self._value(2)
        start = draw.choice((b"}", b"ccollections\nOrderedDict\n)R"))
        built = draw.choice((b"", b"", b"}(" + self._string("items") + self._value(3) + b"ub"))
        return start + b"(" + body + key + odd + b"u" + built

    def _bomb(self) -> bytes:
        """A few bytes, or a few million, that ask for much."""
        draw = self.random
        depth = draw.choice((1_000, 100_000, 1_000_000))
        doubling = b"N" + b"2\x86" * draw.choice((30, 60, 100))
        named = b"\x94".join([b"(lq\x00"] + [b"](h\x00h\x00e"] * 3)
        return draw.choice(
            (
                b"N" + b"\x85" * depth,
                b"](" * depth + b"e" * depth,
                doubling,
                b"}" + doubling + b"Ns",
                b"\x8f(" + doubling + b"\x90",
                b"]q\x00" + b"(h\x00h\x00e" * 40,
                named,
                b"N\x94" + b"h\x00" * 200_000,
                b"Nr" + struct.pack("<I", draw.choice((2**24, 2**31, 2**32 - 1))),
                b"\x8e" + struct.pack("<Q", draw.choice((2**31, 2**40, 2**63))),
                b"\x8d" + struct.pack("<Q", 2**40) + b"x",
                b"\x96" + struct.pack("<Q", draw.choice((2**31, 2**40))),
                b"B" + struct.pack("<I", 2**32 - 1),
                b"\x8b" + struct.pack("<i", draw.choice((2**31 - 1, -1, 5_000_000))) + b"\x7f" * 99,
                b"L" + b"9" * draw.choice((4_000, 400_000)) + b"L\n",
                b"I" + b"9" * 400_000 + b"\n",
                b"cnumpy\nndarray\n(" + self._integers([2**40]) + b"tR",
                b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
                + self._integers([2**34])
                + b"C\x01btR",
                b"(" + b"N" * 3_000_000 + b"t",
                b"ctorch\nSize\n(" + self._integers([2**60] * 50) + b"tR",
            )
        )


def hostile_file(seed: int) -> bytes:
    """A checkpoint file around one program: a pickle, a zip of torch, or its old format."""
    program = Grammar(seed).program()
    kind = random.Random(f"file {seed}").choice(("zip", "zip", "plain", "legacy"))
    if kind == "plain":
        return program
    if kind == "legacy":
        tail = pickle.dumps(["0"], 2) + struct.pack("<q", 4) + bytes(16)
        return MAGIC + pickle.dumps(SYSTEM, 2) + program + tail
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in (("data.pkl", program), ("data/0", struct.pack("<4f", 1, 2, 3, 4))):
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), data)  # without the time of day
    return file.getvalue()
