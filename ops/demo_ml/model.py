"""Reads digits with the model that the job made: plain Python, apart from what trained it."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

LEARNT = 1_437  # rows of the data set that the job learns from; what follows tests it
Layer = tuple[Sequence[Sequence[float]], Sequence[float]]  # weights by input, offsets


def accuracy(model: Path, digits: Path) -> float:
    """Of the model on the digits that it never saw, from 0 to 1. Raises OSError, ValueError, KeyError."""
    document = json.loads(model.read_bytes())
    layers: list[Layer] = list(zip(document["weights"], document["offsets"], strict=True))
    with gzip.open(digits, "rt") as file:
        rows = [[float(text) for text in row] for row in csv.reader(file)][LEARNT:]
    return sum(read_digit(layers, row[:64]) == row[64] for row in rows) / len(rows)


def read_digit(layers: Sequence[Layer], dots: Sequence[float]) -> int:
    """dots: 64 grey values from 0 to 16."""
    values = [dot / 16.0 for dot in dots]
    for number, (weights, offsets) in enumerate(layers, 1):
        values = [
            sum(value * row[column] for value, row in zip(values, weights, strict=True)) + offset
            for column, offset in enumerate(offsets)
        ]
        if number < len(layers):
            values = [max(0.0, value) for value in values]
    return max(range(len(values)), key=values.__getitem__)
