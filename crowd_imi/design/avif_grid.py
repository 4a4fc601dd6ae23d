"""Many AVIF images of one size as one AVIF image: a ``grid`` item, whose cells keep their own coding.

No library at hand writes a grid whose cells have different qualities, so the boxes are put together here.

Source: ISO/IEC 14496-12 (boxes), ISO/IEC 23008-12 6.6.2.3 (grids), AV1 Image File Format 1.1.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

SMALLEST_CELL = 64
"""Pixels: decoders refuse a grid of smaller cells (MIAF, ISO/IEC 23000-22 7.3.11.4.2)."""

BOX_HEADER = 8
_SHARED = (b"ispe", b"pixi", b"av1C", b"colr")
_SIZE, _DEPTHS, _CODING, _COLOUR, _GRID_SIZE = range(1, 6)
"""Places in ``ipco``, counted from 1 as ``ipma`` does."""
_ESSENTIAL = 0x80
_GRID_ITEM = 1


@dataclass(frozen=True, slots=True)
class _Image:
    """What an AVIF file of a single image holds."""

    coded: bytes
    properties: dict[bytes, bytes]


def join(files: Sequence[bytes], columns: int, cell: int) -> bytes:
    """One AVIF image out of many.

    Args:
        files: AVIF files of one image each, row by row; all of ``cell`` × ``cell`` pixels, and encoded with the same
            settings but for their quality.
        columns: how many of them stand beside one another.
        cell: pixels, at least ``SMALLEST_CELL``.
    """
    images = [_read(file) for file in files]
    rows = len(images) // columns
    width, height = columns * cell, rows * cell
    layout = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
    data = [layout, *(image.coded for image in images)]
    shared = [_box(kind, images[0].properties[kind]) for kind in _SHARED]
    grid_size = _full_box(b"ispe", struct.pack(">II", width, height))

    head = _box(b"ftyp", b"avif", bytes(4), b"avif", b"mif1", b"miaf", b"MA1A")
    inner = [
        _full_box(b"hdlr", bytes(4), b"pict", bytes(13)),
        _full_box(b"pitm", struct.pack(">H", _GRID_ITEM)),
        _items(len(data)),
        _full_box(b"iref", _box(b"dimg", struct.pack(f">{len(data) + 1}H", _GRID_ITEM, len(images), *_cells(len(data))))),
        _box(b"iprp", _box(b"ipco", *shared, grid_size), _associations(len(data))),
    ]
    before = len(head) + len(_meta(inner, data, 0)) + BOX_HEADER
    return head + _meta(inner, data, before) + _box(b"mdat", *data)


def _cells(count: int) -> range:
    """Ids of the cells, behind the grid's own, of ``count`` items altogether."""
    return range(_GRID_ITEM + 1, _GRID_ITEM + count)


def _meta(inner: Sequence[bytes], data: Sequence[bytes], start: int) -> bytes:
    """The box that describes the items, whose data lies one behind the other from ``start`` on."""
    offsets = accumulate((len(part) for part in data[:-1]), initial=start)
    places = enumerate(zip(offsets, data, strict=True), _GRID_ITEM)
    extents = [struct.pack(">HHHII", item, 0, 1, offset, len(part)) for item, (offset, part) in places]
    locations = _full_box(b"iloc", struct.pack(">BBH", 0x44, 0, len(data)), *extents)
    return _full_box(b"meta", *inner, locations)


def _items(count: int) -> bytes:
    cells = [_full_box(b"infe", struct.pack(">HH4sB", item, 0, b"av01", 0), version=2, flags=1) for item in _cells(count)]
    grid = _full_box(b"infe", struct.pack(">HH4sB", _GRID_ITEM, 0, b"grid", 0), version=2)
    return _full_box(b"iinf", struct.pack(">H", count), grid, *cells)


def _associations(count: int) -> bytes:
    of_grid = (_GRID_SIZE, _DEPTHS, _COLOUR)
    of_cell = (_SIZE, _DEPTHS, _CODING | _ESSENTIAL, _COLOUR)
    entries = [struct.pack(f">HB{len(of_grid)}B", _GRID_ITEM, len(of_grid), *of_grid)]
    entries += [struct.pack(f">HB{len(of_cell)}B", item, len(of_cell), *of_cell) for item in _cells(count)]
    return _full_box(b"ipma", struct.pack(">I", count), *entries)


def _read(file: bytes) -> _Image:
    top = children(file)
    properties = children(children(children(top[b"meta"][4:])[b"iprp"])[b"ipco"])
    return _Image(top[b"mdat"], properties)


def children(content: bytes) -> dict[bytes, bytes]:
    """The boxes in ``content``, one of each kind: kind → what it holds."""
    found, start = {}, 0
    while start < len(content):
        length, kind = struct.unpack_from(">I4s", content, start)
        found[kind] = content[start + BOX_HEADER : start + length]
        start += length
    return found


def _box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", BOX_HEADER + len(content), kind) + content


def _full_box(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)
