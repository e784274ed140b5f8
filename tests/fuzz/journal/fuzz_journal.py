"""A fuzz target: any bytes as a journal's file. What opens is read; what does not is refused by type; nothing else happens.

The first byte of an input says how the rest is used: bit 0: the segment was sealed; bit 1: put the checksums right, so that what
lies behind them is reached; bit 2: the file is the second of two segments; bits 3 to 7: the checkpoint's LSN.

    python tests/fuzz/journal/fuzz_journal.py --seconds 60 --seed 1

mutates the committed corpus. An input that fails is left in the folder `--found` and printed with the seed. With a
coverage-guided fuzzer, give it `fuzz_one`.
"""

from __future__ import annotations

import argparse
import random
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from holdfast.journal import Corruption, IncompatibleFormat, Journal, JournalOptions, Kind, Lane, MemoryDisk, Record
from holdfast.journal.format import (
    GROUP,
    GROUP_HEADER_BYTES,
    SegmentHeader,
    group_bytes,
    pack_group,
    pack_segment_header,
)
from holdfast.journal.record import pack_record

CORPUS = Path(__file__).parent / "corpus"
FOLDER = "/v/journal"
STATE = b"state"
SEED = 77
SIZE_BYTES_MAX = 1 << 16
OPTIONS = JournalOptions(
    segment_bytes=4096,
    first_segment_bytes=4096,
    headroom_bytes=0,
    lane=Lane.INLINE,
    prepare_ahead=False,
    idle_mark_s=60.0,
)
SEALED, REPAIRED, SECOND = 1, 2, 4


def fuzz_one(data: bytes) -> str:
    """Open and read a journal made of `data`; returns what happened in a word. Raises whatever must not happen."""
    if not data or len(data) > SIZE_BYTES_MAX:
        return "skipped"
    how, content = data[0], data[1:]
    if how & REPAIRED:
        content = with_right_checksums(content)
    disk = MemoryDisk()
    disk.make_folder(FOLDER)
    first_lsn = 1
    if how & SECOND:
        before = segment([[1, 2], [3]], seal=True)
        disk.write(f"{FOLDER}/{1:020d}-00000001.seg", before)
        first_lsn = 4
    disk.write(f"{FOLDER}/{first_lsn:020d}-00000001.{'seg' if how & SEALED else 'open'}", content)
    try:
        journal, records = opened(disk, how >> 3)
    except (Corruption, IncompatibleFormat) as error:
        return type(error).__name__
    assert (
        [record.lsn for record in records] == list(range(records[0].lsn, records[0].lsn + len(records)))
        if records
        else True
    )
    again, same = opened(disk, how >> 3)
    assert same == records, "a second start finds something else"
    assert again.recovery.torn is None, "a torn tail was not cut"
    assert again.last_lsn == journal.last_lsn
    return "torn" if journal.recovery.torn else "opened"


def opened(disk: MemoryDisk, checkpoint_lsn: int) -> tuple[Journal, list[Record]]:
    journal = Journal.open(FOLDER, state_id=STATE, disk=disk, options=OPTIONS, checkpoint_lsn=checkpoint_lsn)
    return journal, list(journal.read(checkpoint_lsn))


def with_right_checksums(content: bytes) -> bytes:
    """The same file with the checksums that its header and groups would have, chain included."""
    data = bytearray(content)
    if len(data) < 512:
        return content
    data[508:512] = zlib.crc32(data[:508]).to_bytes(4, "little")
    seed = int.from_bytes(data[48:52], "little")
    previous, offset = seed, 512
    while offset + GROUP_HEADER_BYTES <= len(data) and data[offset : offset + 4] == b"HGRP":
        length = group_bytes(GROUP.unpack_from(data, offset)[1])
        if offset + length > len(data):
            break
        data[offset + 32 : offset + 36] = previous.to_bytes(4, "little")
        data[offset + 36 : offset + 40] = zlib.crc32(data[offset + 48 : offset + length]).to_bytes(4, "little")
        place = seed.to_bytes(4, "little") + offset.to_bytes(8, "little")
        previous = zlib.crc32(data[offset : offset + 40], zlib.crc32(place))
        data[offset + 40 : offset + 44] = previous.to_bytes(4, "little")
        offset += length
    return bytes(data)


def segment(groups: list[list[int]], *, first_lsn: int = 1, seal: bool = False, size_bytes: int = 0) -> bytes:
    """A segment with groups of records of these payload sizes, watermarks as a writer would set them."""
    header = SegmentHeader(first_lsn, 1, 1, size_bytes, SEED, STATE)
    data, previous, lsn = pack_segment_header(header), SEED, first_lsn
    kinds: list[tuple[list[bytes], int]] = [
        ([pack_record(Kind.COMMAND, "sqs", "Send", 1, b"p" * size, (b"d" * 32,)) for size in sizes], len(sizes))
        for sizes in groups
    ]
    if seal:
        kinds.append(([pack_record(Kind.SEAL, "", "", 1, b"")], 0))
    for records, lsn_count in kinds:
        group, previous = pack_group(
            b"".join(records),
            first_lsn=lsn,
            lsn_count=lsn_count,
            record_count=len(records),
            watermark=lsn - 1,
            previous=previous,
            chain_seed=SEED,
            offset=len(data),
        )
        data += group
        lsn += lsn_count
    return data.ljust(size_bytes, b"\0")


def seeds() -> Iterator[tuple[str, bytes]]:
    """The corpus as it was made: a name and an input for each situation that the reader tells apart."""
    whole = segment([[10], [20, 30], [300], [400], [5]], size_bytes=2048)
    sealed = segment([[10], [20, 30], [300]], seal=True)
    yield "open", bytes([0]) + whole
    yield "sealed", bytes([SEALED]) + sealed
    yield "second", bytes([SECOND]) + segment([[5], [6]], first_lsn=4, size_bytes=1024)
    yield "empty-open", bytes([0]) + segment([], size_bytes=1024)
    yield "empty-sealed", bytes([SEALED]) + segment([], seal=True)
    yield "torn", bytes([0]) + whole[:900] + bytes(1148)
    yield "lost-sector", bytes([0]) + whole[:512] + bytes(512) + whole[1024:]
    yield "behind-checkpoint", bytes([3 << 3]) + whole[:520] + b"\xff" + whole[521:]
    yield "no-seal", bytes([SEALED]) + sealed[:-80]
    yield "bytes-after-seal", bytes([SEALED]) + sealed + b"more"
    yield "grown", bytes([0]) + segment([[700], [7]])
    yield "cut-short", bytes([0]) + whole[:1000]
    yield "begins-anew", bytes([REPAIRED]) + whole[:12] + b"\1" + whole[13:]
    yield "next-version", bytes([REPAIRED]) + whole[:8] + b"\2" + whole[9:]
    yield "garbage-records", bytes([REPAIRED]) + whole[:560] + b"\xdd\xff\xff\xff\xff" + whole[565:]
    yield "zeros", bytes(1025)
    yield "nothing", bytes(1)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """An input like `data`: bits, bytes, integers, blocks changed, moved, cut or repeated."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at = chance.randrange(len(changed) or 1)
        match chance.randrange(8):
            case 0:
                changed[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                changed[at : at + 1] = bytes([(changed[at : at + 1] or b"\0")[0] ^ 1 << chance.randrange(8)])
            case 2:
                changed[at : at + 4] = chance.choice((0, 1, 47, 48, 512, 2**31, 2**32 - 1)).to_bytes(4, "little")
            case 3:
                changed[at : at + 8] = chance.choice((0, 1, 2, 3, 2**63, 2**64 - 1)).to_bytes(8, "little")
            case 4:
                changed[at : at + chance.choice((8, 64, 512))] = b""
            case 5:
                begin = chance.randrange(len(changed) or 1)
                changed[at:at] = changed[begin : begin + chance.choice((8, 56, 512))]
            case 6:
                del changed[at:]
            case _:
                changed[0:1] = bytes([chance.randrange(256)])
    if changed and chance.random() < 0.5:
        changed[0] |= REPAIRED
    return bytes(changed[:SIZE_BYTES_MAX])


def fuzz(seed: int, *, inputs: int | None = None, seconds: float = 0.0, found: Path | None = None) -> dict[str, int]:
    """Run mutations of the corpus; returns how often what happened. An input that fails is written to `found`."""
    chance = random.Random(seed)
    corpus = [path.read_bytes() for path in sorted(CORPUS.iterdir())]
    outcomes: dict[str, int] = {}
    end_s = time.monotonic() + seconds
    while sum(outcomes.values()) < inputs if inputs is not None else time.monotonic() < end_s:
        data = mutated(chance.choice(corpus), chance)
        try:
            outcome = fuzz_one(data)
        except BaseException:
            if found is not None:
                found.mkdir(parents=True, exist_ok=True)
                (found / f"{zlib.crc32(data):08x}").write_bytes(data)
            print(f"seed {seed}, input {sum(outcomes.values())}: {data.hex()}")
            raise
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes


def main() -> None:
    """Fuzz for a while, or write the corpus anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"))
    parser.add_argument("--write-corpus", action="store_true", help="write the seeds of this file into the corpus")
    options = parser.parse_args()
    if options.write_corpus:
        for name, data in seeds():
            (CORPUS / name).write_bytes(data)
        return
    print(f"seed {options.seed}")
    for outcome, count in sorted(fuzz(options.seed, seconds=options.seconds, found=options.found).items()):
        print(f"{count:>9}  {outcome}")


if __name__ == "__main__":
    main()
