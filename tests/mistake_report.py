"""``pytest tests/test_mistakes.py --mistakes`` prints each mistake with its seconds and what was said of it; a plugin."""


def pytest_addoption(parser):
    parser.addoption("--mistakes", action="store_true", help="print the table of mistakes, seconds and messages")


def pytest_terminal_summary(terminalreporter, config):
    """A row for each mistake, in the order of the table, paths without the folders of the test."""
    reports = [report for one in ("passed", "failed") for report in terminalreporter.stats.get(one, [])]
    rows = [value for report in reports for name, value in report.user_properties if name == "mistake"]
    if not config.getoption("mistakes") or not rows:
        return
    terminalreporter.section(f"{len(rows)} mistakes")
    for row in rows:
        first, *more = row["message"].replace(f"{row['folder']}/", "").splitlines() or [""]
        terminalreporter.write_line(f"{row['seconds']} s  {row['what']}")
        for line in (first, *more[:3]):
            terminalreporter.write_line(f"        {line[:300]}")
