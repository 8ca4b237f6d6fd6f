"""Commands that are killed at any moment and run again end as if they had not been killed."""

from test_processes import report_of


def test_fifty_kills_lose_nothing(tmp_path):
    report = report_of("kills.py", tmp_path, 14, ACCELERATE_USE_CPU="1")
    kills = [(name, kill) for name, of_command in report.items() for kill in of_command]
    assert [(name, kill["problem"]) for name, kill in kills if kill["problem"]] == []
    # a limit on the size of files may be above all that are written after it
    assert sum(kill["died"] for _, kill in kills) >= 50
