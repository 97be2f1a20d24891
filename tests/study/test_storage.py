from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
from test_study_folder import request

from monai_lighter.study.runner import compare_with_others
from monai_lighter.study.storage import Queue
from monai_lighter.study.study_folder import COMPLETE, FAILED

SEARCH = {"grid": {"fold": [0, 1]}, "ranges": {"lr": ["log", 1e-4, 1e-1], "depth": ["int", 1, 5]}, "n_trials": 4}


def numbers(job):
    return [trial.number for trial in job.trials]


def test_a_grid_is_all_combinations_folds_last(tmp_path):
    queue = Queue(tmp_path, request())
    jobs = [queue.take() for _ in range(6)]
    assert [numbers(job) for job in jobs] == [[0], [1], [2], [3], [4], [5]]
    assert [job.trials[0].parameters for job in jobs][2:4] == [{"lr": 0.1, "fold": 2}, {"lr": 0.01, "fold": 0}]
    assert [job.trials[0].set for job in jobs] == [0, 0, 0, 1, 1, 1]
    assert queue.take() is None
    assert not queue.is_over
    for job in jobs:
        queue.tell(job, 0.5, COMPLETE)
        job.lock.release()
    assert queue.is_over


def test_lists_and_texts_are_values_as_they_were(tmp_path):
    queue = Queue(tmp_path, request(grid={"channels": [[4, 8], [8, 16]], "name": ["a", None]}, over=[]))
    found = [queue.take().trials[0].parameters for _ in range(4)]
    assert found == [{"channels": c, "name": n} for c in ([4, 8], [8, 16]) for n in ("a", None)]


def test_no_job_is_taken_twice(tmp_path):
    queues = [Queue(tmp_path, request()) for _ in range(3)]  # as three processes have them

    def work(queue):
        taken = []
        while (job := queue.take()) is not None:
            taken += numbers(job)
            queue.tell(job, 0.5, COMPLETE)
            job.lock.release()
        return taken

    with ThreadPoolExecutor(3) as pool:
        taken = [number for found in pool.map(work, queues) for number in found]
    assert Counter(taken) == Counter(range(6))


def test_what_a_dead_process_had_is_taken_again_with_its_values(tmp_path):
    first, second = Queue(tmp_path, request(**SEARCH)), Queue(tmp_path, request(**SEARCH))
    job, other = first.take(), first.take()
    job.lock.release()  # as the system does when the process is killed
    again = [second.take() for _ in range(3)]
    assert [trial.parameters for trial in job.trials] in [[trial.parameters for trial in one.trials] for one in again]
    assert [0, 1] in map(numbers, again)
    assert numbers(other) == [2, 3]
    assert [2, 3] not in map(numbers, again)  # its process lives
    assert second.take() is None


def test_a_search_draws_within_its_ranges_and_runs_all_folds(tmp_path):
    queue = Queue(tmp_path, request(**SEARCH))
    jobs = [queue.take() for _ in range(4)]
    assert [numbers(job) for job in jobs] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    for job in jobs:
        lr, depth = (job.trials[0].parameters[name] for name in ("lr", "depth"))
        assert 1e-4 <= lr <= 1e-1
        assert depth in range(1, 6)
        assert [trial.parameters for trial in job.trials] == [
            {"lr": lr, "depth": depth, "fold": fold} for fold in (0, 1)
        ]
    assert len({job.trials[0].parameters["lr"] for job in jobs}) == 4
    assert queue.take() is None


def test_what_is_drawn_depends_on_the_seed_and_not_on_the_process(tmp_path):
    def draw(folder, queues, **changes):
        made = [Queue(tmp_path / folder, request(**{**SEARCH, **changes})) for _ in range(queues)]
        return [made[i % queues].take().trials[0].parameters["lr"] for i in range(4)]

    assert draw("a", 1) == draw("b", 2)
    assert draw("c", 1, sampler_seed=1) != draw("a2", 1)


def test_a_search_can_be_made_longer(tmp_path):
    for n_trials, new in ((2, [[0], [1]]), (3, [[2]])):
        queue = Queue(tmp_path, request(grid={}, ranges=SEARCH["ranges"], over=[], n_trials=n_trials))
        for expected in new:
            job = queue.take()
            assert numbers(job) == expected
            queue.tell(job, 0.5, COMPLETE)
            job.lock.release()
        assert queue.is_over


def test_what_was_killed_is_taken_again_by_the_next_command(tmp_path):
    queue = Queue(tmp_path, request(grid={"lr": [1, 2]}, over=[]))
    for code in (1, -9):
        job = queue.take()
        job.trials[0]._replace(state=FAILED, exit_code=code).write()
        queue.tell(job, None, FAILED)
        job.lock.release()
    assert queue.is_over
    queue.retry()
    assert numbers(queue.take()) == [1]
    assert queue.take() is None


def test_what_has_failed_is_taken_again_when_asked_for(tmp_path):
    queue = Queue(tmp_path, request(grid={"lr": [1, 2]}, over=[]))
    for state in (FAILED, COMPLETE):
        job = queue.take()
        queue.tell(job, 0.5, state)
        job.lock.release()
    assert queue.is_over
    queue.retry(failed=True)
    assert numbers(queue.take()) == [0]
    assert queue.take() is None


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_job_without_a_value_is_no_result(tmp_path, value):
    queue = Queue(tmp_path, request(grid={"lr": [1, 2]}, over=[]))
    queue.tell(queue.take(), value, COMPLETE)
    assert queue.study.trials[0].state == optuna.trial.TrialState.FAIL


def test_a_database_does_as_well(tmp_path):
    pytest.importorskip("sqlalchemy")
    url = f"sqlite:///{tmp_path}/study.db"
    queues = [Queue(tmp_path, request(), url) for _ in range(2)]
    assert [numbers(queues[i % 2].take()) for i in range(6)] == [[i] for i in range(6)]


def test_one_that_is_worse_than_the_median_of_five_is_to_be_pruned(tmp_path):
    ranges = {"lr": ["log", 1e-4, 1e-1]}
    for prune in (True, False):
        queue = Queue(tmp_path / str(prune), request(grid={}, ranges=ranges, over=[], n_trials=7), prune=prune)
        for value in (0.5, 0.6, 0.7, 0.8, 0.9):
            job = queue.take()
            job.asked.report(value, 0)
            queue.tell(job, value, COMPLETE)
        worse, better = queue.take(), queue.take()
        worse.asked.report(0.69, 0)
        better.asked.report(0.71, 0)
        assert (worse.asked.should_prune(), better.asked.should_prune()) == (prune, False)


def test_studies_of_one_name_in_one_database_are_two(tmp_path):
    """As those of two bundles are, each named for its ``train.yaml``."""
    pytest.importorskip("sqlalchemy")
    url = f"sqlite:///{tmp_path}/study.db"
    first = Queue(tmp_path / "a" / "train", request(key="train-1"), url)
    taken = [first.take() for _ in range(6)]
    second = Queue(tmp_path / "b" / "train", request(key="train-2", grid={"lr": [1, 2]}, over=[]), url)
    assert [second.take().trials[0].parameters for _ in range(2)] == [{"lr": 1}, {"lr": 2}]
    assert not {job.trials[0].folder for job in taken} & {tmp_path / "b" / "train" / name for name in ("000", "001")}


def test_a_storage_that_is_lost_draws_what_the_folders_have(tmp_path):
    asked = request(**{**SEARCH, "grid": {"fold": [0, 1], "size": [(4, 4), (8, 8)]}})
    queue = Queue(tmp_path, asked)
    drawn = []
    for _ in range(2):
        job = queue.take()
        drawn.append(job.trials[0].parameters)
        for trial in job.trials:
            trial.folder.mkdir(exist_ok=True)
            trial._replace(state=COMPLETE, value=0.5).write()
        queue.tell(job, 0.5, COMPLETE)
        job.lock.release()
    (tmp_path / "journal.log").unlink()
    again = Queue(tmp_path, asked._replace(sampler_seed=7))
    assert [again.take().trials[0].parameters for _ in range(2)] == drawn


def test_a_process_that_dies_before_it_knows_the_values_leaves_those_of_the_grid(tmp_path):
    queue = Queue(tmp_path, request())
    for _ in range(3):
        queue.study.ask()  # and it was killed
    assert [queue.take().trials[0].parameters for _ in range(6)] == [
        {"lr": lr, "fold": fold} for lr in (0.1, 0.01) for fold in (0, 1, 2)
    ][3:] + [{"lr": 0.1, "fold": fold} for fold in (0, 1, 2)]


def test_a_trial_without_a_value_yet_is_not_pruned(tmp_path):
    """A distance has no value in the epochs in which a network predicts nothing."""
    queue = Queue(tmp_path, request(**{**SEARCH, "grid": {}, "over": [], "n_trials": 8}))
    for value in range(6):
        job = queue.take()
        assert not any(compare_with_others(job, epoch, value) for epoch in (0, 1))
        queue.tell(job, value, COMPLETE)
        job.lock.release()
    job = queue.take()
    assert not compare_with_others(job, 0, float("nan"))
    assert compare_with_others(job, 1, -1.0)
