"""What a study's workers are told of its command."""

import pytest

from monai_lighter.commands.study import _drop_options


@pytest.mark.parametrize("given", ["--retry_failed", "--retry_failed=True", "--retry-failed"])
def test_workers_retry_nothing_and_submit_nothing(given):
    words = [
        "study",
        "a.yaml",
        given,
        "--n_jobs",
        "2",
        "--cluster=local",
        "--fold",
        "0,1",
        "--devices=0,1",
        "--lr=1e-3",
    ]
    assert [*_drop_options(words)] == ["study", "a.yaml", "--fold", "0,1", "--lr=1e-3"]
