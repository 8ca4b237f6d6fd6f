# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Explain what is wrong with a CSV file: where it stops being UTF-8, or what separates its cells."""

import codecs
from pathlib import Path

_BYTES_AT_ONCE = 1 << 20
_LONGEST_HEADER = 1 << 20
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def describe_broken_utf8(path: str | Path) -> str | None:
    """Name the first byte of a file that is not UTF-8, and the command that converts the file.

    Returns:
        A sentence, or `None` if the whole file is UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, read = 1, 0
    with open(path, "rb") as file:
        start = file.read(len(codecs.BOM_UTF16_LE))
        file.seek(0)
        while True:
            chunk = file.read(_BYTES_AT_ONCE)
            # bytes of a character that began in the last chunk
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
    """Name the separator that a CSV file seems to use instead of commas.

    Returns:
        A sentence that starts with a space; empty if the header has commas or no known separator, or if the file is
        gzipped.
    """
    if Path(path).suffix == ".gz":
        return ""
    with open(path, encoding="utf-8", errors="replace") as file:
        header = file.readline(_LONGEST_HEADER)
    separator = next((character for character in ";\t|" if character in header), None)
    if "," in header or separator is None:
        return ""
    return f" Its cells seem to be separated by {separator!r}: write the file with commas."
