import hashlib
import logging
import os
import time

import pytest

from monai_lighter.trust.digest import LARGE, MOST_OPEN, begin_digest, hash_file, log_digest, run_digest

SIZE = 100 * LARGE
"""Bytes of a file that takes longer to read than what a test does meanwhile."""


@pytest.fixture
def weights(bundle):
    """A large file, of zeros that take no place on the disk."""
    file = bundle / "models" / "model.pt"
    with file.open("wb") as stream:
        stream.truncate(SIZE)
    return file


def expected_digest(root):
    """By the description in docs/security.md: lines of content and name, sorted."""
    lines = []
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else None
                content = digest.hexdigest() if digest else hashlib.sha256(file.read()).hexdigest()
            lines.append(f"{content} {os.path.relpath(path, root)}\0".encode())
    return hashlib.sha256(b"".join(sorted(lines))).hexdigest()


def test_both_ways_give_the_number_of_the_documents(bundle, weights):
    assert begin_digest(bundle).result() == run_digest(bundle) == expected_digest(bundle)


def test_a_run_does_not_wait_for_its_weights(bundle, weights):
    begun = time.process_time()
    found = begin_digest(bundle)
    assert not found.done()
    assert time.process_time() - begun < 0.1
    found.result()


def test_weights_that_others_take_the_place_of_are_read_as_they_were(bundle, weights):
    before = expected_digest(bundle)
    found = begin_digest(bundle)
    (bundle / "new").write_bytes(b"after the first epoch")
    os.replace(bundle / "new", weights)
    assert found.result() == before
    assert run_digest(bundle) == expected_digest(bundle) != before


def test_a_file_that_is_written_to_meanwhile_gives_no_number_of_neither(bundle, weights):
    before = expected_digest(bundle)
    found = begin_digest(bundle)
    with weights.open("ab") as stream:
        stream.write(b"more")
    error = found.exception()
    assert "was written to while it was read" in str(error) if error else found.result() == before
    assert run_digest(bundle) == expected_digest(bundle) != before


def test_what_is_remembered_is_not_what_has_changed(bundle):
    file = bundle / "configs" / "inference.json"
    first = hash_file(file)
    status = file.stat()
    file.write_bytes(file.read_bytes().swapcase())  # in the same tick of the clock, and as long
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert hash_file(file) == hashlib.sha256(file.read_bytes()).hexdigest() != first


def test_a_file_that_has_settled_is_not_read_again(bundle, weights):
    time.sleep(2.1)
    number = run_digest(bundle)
    found = begin_digest(bundle)
    assert found.done()
    assert found.result() == number
    weights.write_bytes(b"other")
    assert run_digest(bundle) != number


def test_no_more_files_are_held_open_than_few(bundle):
    for number in range(MOST_OPEN + 10):
        with (bundle / "models" / f"{number}.pt").open("wb") as stream:
            stream.truncate(LARGE + 1)
    before = len(os.listdir("/proc/self/fd"))
    found = begin_digest(bundle)
    assert len(os.listdir("/proc/self/fd")) <= before + MOST_OPEN
    assert found.result() == run_digest(bundle)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_the_digest_is_logged_when_it_is_known(bundle, weights, caplog):
    with caplog.at_level(logging.INFO, "monai_lighter.trust.digest"):
        log_digest(bundle)
        number = run_digest(bundle)
        end = time.monotonic() + 30
        while number not in caplog.text and time.monotonic() < end:
            time.sleep(0.01)
    assert f"sha256 over configs, models, scripts: {number}" in caplog.text
