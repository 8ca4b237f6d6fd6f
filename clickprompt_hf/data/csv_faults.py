# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""What is wrong with a file of text: where it stops being UTF-8, or what separates its cells."""

import codecs
from pathlib import Path

_BYTES_AT_ONCE = 1 << 20
_LONGEST_HEADER = 1 << 20
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def describe_broken_utf8(path: str | Path) -> str | None:
    """A sentence on the first byte of the file that is not UTF-8, and the command that converts it; `None` where all
    are."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, read = 1, 0
    with open(path, "rb") as file:
        start = file.read(len(codecs.BOM_UTF16_LE))
        file.seek(0)
        while True:
            chunk = file.read(_BYTES_AT_ONCE)
            # of a character that the last chunk began
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                position = read - pending + error.start
                line += error.object[: error.start].count(b"\n")
                encoding = "UTF-16" if start in _UTF_16_MARKS else "WINDOWS-1252"
                return (
                    f"Byte {position} (0x{error.object[error.start]:02X}, in line {line}) is not UTF-8. If the file "
                    f"is {encoding}: iconv -f {encoding} -t UTF-8 {path} > utf8{Path(path).suffix}"
                )
            if not chunk:
                return None
            line += chunk.count(b"\n")
            read += len(chunk)


def advise_separator(path: str | Path) -> str:
    """A sentence, with a space in front, on what seems to separate the cells of a CSV file in the place of commas.

    Empty where its header has commas, or none of the usual marks, or the file is gzipped.
    """
    if Path(path).suffix == ".gz":
        return ""
    with open(path, encoding="utf-8", errors="replace") as file:
        header = file.readline(_LONGEST_HEADER)
    mark = next((mark for mark in ";\t|" if mark in header), None)
    if "," in header or mark is None:
        return ""
    return f" Its cells seem to be separated by {mark!r}: write the file with commas."
