# Copyright 2026 The clickprompt_hf authors. Licensed under the Apache License, Version 2.0.
"""Rows of tables in safetensors files that several processes write and read together.

A file is first laid out: header, room for every table, and the tensors of another file. Each process then writes its
rows where they belong, and reads only the rows that it holds. Besides its own rows, a process holds only a piece of a
table in memory. torch.distributed.checkpoint is no alternative: its safetensors writer keeps a second copy of a
process's rows in memory and needs twice the disk space, and its other readers load every piece of which they need a
row.

Shapes: N rows of a table over all processes, n rows of this process, E numbers per row.
"""

import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

_TYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
# Checks and casts hold several pieces for a moment.
_BYTES_PER_PIECE = 2**22
_HEADER_ALIGNMENT = 8


def lay_out(path: Path, tables: Mapping[str, tuple[int, torch.Tensor]], source: Path | None = None) -> None:
    """Write a safetensors file whose tables are still to be filled, and reserve its space on the disk.

    Args:
        path: The file.
        tables: For each name, N and the rows (n, E) of this process, for their type and width.
        source: File whose tensors and metadata the new one holds as well.

    Raises:
        OSError: If the disk is too small, or the file cannot be written.
    """
    metadata, tensors, start = {"format": "pt"}, {}, 0
    if source is not None:
        header, start = _header(source)
        metadata = header.pop("__metadata__", metadata)
        tensors = header
    entries: dict[str, dict[str, Any]] = {
        name: {"dtype": _TYPES[rows.dtype], "shape": [number, *rows.shape[1:]]}
        for name, (number, rows) in tables.items()
    }
    sizes = {name: number * _row_bytes(rows) for name, (number, rows) in tables.items()}
    for name, tensor in tensors.items():
        entries[name] = {"dtype": tensor["dtype"], "shape": tensor["shape"]}
        sizes[name] = tensor["data_offsets"][1] - tensor["data_offsets"][0]
    end = 0
    # wide types first, as safetensors does, so that every tensor is aligned
    for name in sorted(entries, key=lambda name: (-_item_size(entries[name], sizes[name]), name)):
        entries[name]["data_offsets"] = [end, end + sizes[name]]
        end += sizes[name]
    text = json.dumps({"__metadata__": metadata, **entries}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _HEADER_ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        first = file.tell()
        file.flush()
        _reserve(file.fileno(), first + end)
        if source is not None:
            with source.open("rb") as original:
                for name, tensor in tensors.items():
                    original.seek(start + tensor["data_offsets"][0])
                    file.seek(first + entries[name]["data_offsets"][0])
                    _copy(original, file, sizes[name])


def write_rows(path: Path, name: str, rows: torch.Tensor, first_row: int) -> None:
    """Write rows of a table into a file that `lay_out` made.

    Args:
        path: The file.
        name: Name of the table.
        rows: (n, E).
        first_row: Number of the first of them in the table.

    Raises:
        OSError: If the file is missing or cannot be written.
    """
    header, start = _header(path)
    with path.open("r+b") as file:
        file.seek(start + header[name]["data_offsets"][0] + first_row * _row_bytes(rows))
        for piece in rows.detach().split(_rows_per_piece(rows)):
            # every type as bytes: numpy has no bf16
            file.write(piece.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())


@torch.no_grad()
def read_rows(path: str | Path, name: str, rows: torch.Tensor, first_row: int) -> bool:
    """Fill rows with those of a table in a safetensors file.

    Args:
        path: The file.
        name: Name of the table.
        rows: (n, E), changed in place.
        first_row: Number of the first row to read.

    Returns:
        Whether all numbers are finite.
    """
    is_finite, step = True, _rows_per_piece(rows)
    # opened anew for each piece, as the pages that were read count as memory of the process while the file is open
    for start in range(0, len(rows), step):
        with safe_open(path, framework="pt") as stored:
            piece = stored.get_slice(name)[first_row + start : first_row + min(start + step, len(rows))]
            is_finite &= bool(piece.isfinite().all())
            rows[start : start + len(piece)] = piece.to(rows.device)
    return is_finite


def read_grown_rows(
    path: str | Path, name: str, rows: torch.Tensor, first_row: int, old_sizes: Sequence[int], new_sizes: Sequence[int]
) -> bool:
    """Fill rows of a table whose fields have gained ids; new ones start as their field's out-of-vocabulary row.

    Args:
        path: The file with the table before it grew.
        name: Name of the table.
        rows: (n, E) of the new table, changed in place.
        first_row: Number of the first of them in the new table.
        old_sizes: Number of ids per field in the file.
        new_sizes: New number of ids per field, none of them smaller.

    Returns:
        Whether all numbers are finite.
    """
    is_finite, old_start, new_start, stop = True, 0, 0, first_row + len(rows)
    for old, new in zip(old_sizes, new_sizes, strict=True):
        low, middle, high = (
            min(max(row, first_row), stop) - first_row for row in (new_start, new_start + old, new_start + new)
        )
        if low < middle:
            is_finite &= read_rows(path, name, rows[low:middle], old_start + first_row + low - new_start)
        if middle < high:
            read_rows(path, name, rows[middle : middle + 1], old_start)
            with torch.no_grad():
                rows[middle + 1 : high] = rows[middle]
        old_start, new_start = old_start + old, new_start + new
    return is_finite


def _rows_per_piece(rows: torch.Tensor) -> int:
    return max(1, _BYTES_PER_PIECE // max(1, _row_bytes(rows)))


def _row_bytes(rows: torch.Tensor) -> int:
    # a process may have no row to measure
    return torch.Size(rows.shape[1:]).numel() * rows.element_size()


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where its tensors start."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(size)), 8 + size


def _item_size(entry: Mapping[str, Any], size: int) -> int:
    number = torch.Size(entry["shape"]).numel()
    return size // number if number else 0


def _reserve(descriptor: int, size: int) -> None:
    # not on every system; elsewhere a full disk shows while rows are written
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)


def _copy(source: Any, target: Any, size: int) -> None:
    while size:
        piece = source.read(min(size, _BYTES_PER_PIECE))
        target.write(piece)
        size -= len(piece)
