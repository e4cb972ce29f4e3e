"""Tells of MPEG's transport and program streams, which state no length, whether they end in mid-packet.

A stream that was cut between two packets looks like a whole one.
"""

from __future__ import annotations

from typing import BinaryIO

_SYNC = 0x47
"""Begins every packet of a transport stream."""
_LAYOUTS = ((188, 0), (192, 4), (204, 0))
"""Bytes of a packet, as broadcast, on discs and with error correction, and where in it the sync byte is."""
_PACK, _END, _FIRST_STREAM = 0xBA, 0xB9, 0xBB
"""Last byte of a program stream's start codes: of a pack, of its end, the least of parts of stated size."""
_START = b"\0\0\1"
_TAIL = 1 << 18
"""Bytes from the end of a program stream in which there is a pack: most make one of every 2 KiB."""
_LEAST = 3
"""Headers that follow one on another before they are taken for headers: numbers may look like one."""


def ends_within_packet(file: BinaryIO, size: int, head: bytes) -> bool:
    """Whether an MPEG stream was cut within a packet; False where nothing tells it, and of other files.

    Args:
        file: is open, and moved.
        size: of the file in bytes.
        head: its first bytes, 409 or more.
    """
    for length, place in _LAYOUTS:
        syncs = head[place : 2 * length + place + 1 : length]
        if len(syncs) == 3 and set(syncs) == {_SYNC}:
            whole = size - size % length
            file.seek(whole + place)
            # Something else behind the last packet is no packet that was cut.
            return whole < size <= whole + place or file.read(1) == bytes([_SYNC])
    if not head.startswith(_START + bytes([_PACK])):
        return False
    file.seek(max(0, size - _TAIL))
    return _is_cut(file.read(), size <= _TAIL)


def _is_cut(tail: bytes, whole: bool) -> bool:
    """Whether the last packet in the ``tail`` of a program stream is not whole.

    ``whole`` says that the tail is all of the stream.
    """
    begin = 0 if whole else tail.find(_START + bytes([_PACK]))
    while begin >= 0:
        place, headers = begin, 0
        while place < len(tail):
            length = _length(tail[place : place + 14])
            if length is None:
                break
            place, headers = place + length, headers + 1
        if headers >= _LEAST:
            return place > len(tail)
        begin = tail.find(_START + bytes([_PACK]), begin + 1)
    return False


def _length(header: bytes) -> int | None:
    """Bytes of a part of a program stream by its first ones; None where it is none, or they are too few."""
    if len(header) < 6 or not header.startswith(_START):
        return None
    code = header[3]
    if code == _END:
        return 4
    if code == _PACK:
        if header[4] >> 4 == 2:  # MPEG-1
            return 12
        return 14 + (header[13] & 7) if header[4] >> 6 == 1 and len(header) == 14 else None
    stated = int.from_bytes(header[4:6], "big")
    return 6 + stated if code >= _FIRST_STREAM and stated else None
