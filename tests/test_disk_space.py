"""Disks that are too small are refused before anything is written."""

import shutil

import pytest

from clickprompt_hf.data.disk_space import check_disk_space


@pytest.mark.parametrize(
    ("needed", "message"),
    [
        (5_000_001, r"later has no room for the rows: 5\.0 MB needed, 5\.0 MB free\. Buy another disk$"),
        (12_345_678_901, r"later has no room for the rows: 12\.3 GB needed, 5\.0 MB free"),
    ],
)
def test_the_folder_and_both_sizes_are_named(needed, message, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=5_000_000)
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: asked.append(folder) or usage)
    check_disk_space(tmp_path / "not" / "yet", 5_000_000, "the rows")
    with pytest.raises(OSError, match=message):
        check_disk_space(tmp_path / "later", needed, "the rows", "Buy another disk")
    # the folder that exists tells the disk
    assert asked == [tmp_path, tmp_path]
