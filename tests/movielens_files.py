"""Made-up files in the MovieLens formats."""

import zipfile
from pathlib import Path

import numpy as np

ML_1M_USERS = "1::F::1::10::48067\n2::M::56::16::70072\n3::M::25::15::55117-1234\n"
ML_1M_MOVIES = "10::Café Lumière, Le (1999)::Drama|Romance\n20::Robots: The Return (2001)::Sci-Fi\n"
ML_1M_RATINGS = "1::10::5::978300760\n1::20::3::978302109\n2::10::1::978301968\n3::20::4::978300275\n"

ML_100K_USERS = "1|24|M|technician|85711\n2|53|F|other|94043\n3|7|M|student|T8H1N\n"
ML_100K_GENRES = "unknown|0\nAction|1\nComedy|2\n\n"
ML_100K_MOVIES = (
    "10|Café Express (1980)|01-Jan-1980||http://nowhere.example/a|0|0|1\n"
    "20|Fast Cars (1995)|01-Jan-1995||http://nowhere.example/b|0|1|1\n"
)
ML_100K_RATINGS = "1\t10\t5\t881250949\n2\t20\t2\t891717742\n3\t10\t3\t878887116\n3\t20\t4\t880606923\n"


def ml_1m_files(num_ratings: int = 0, timestamps: bool = True) -> dict[str, str]:
    """Content by file name: `num_ratings` random ratings by the three users, or by default the four above."""
    ratings = ML_1M_RATINGS
    if num_ratings:
        draw = np.random.default_rng(0)
        ratings = "".join(
            f"{draw.integers(1, 4)}::{draw.choice([10, 20])}::{draw.choice([1, 2, 4, 5])}::{1000 + i}\n"
            for i in range(num_ratings)
        )
    if not timestamps:
        ratings = "".join(line.rsplit("::", 1)[0] + "::0\n" for line in ratings.splitlines())
    return {"ratings.dat": ratings, "users.dat": ML_1M_USERS, "movies.dat": ML_1M_MOVIES}


def ml_100k_files() -> dict[str, str]:
    return {
        "u.data": ML_100K_RATINGS,
        "u.user": ML_100K_USERS,
        "u.item": ML_100K_MOVIES,
        "u.genre": ML_100K_GENRES,
    }


def write_zip(path: Path, folder: str, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"{folder}/{name}", content.encode("latin-1"))
    return path


def write_folder(path: Path, files: dict[str, str]) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content.encode("latin-1"))
    return path
