import pytest

from monai_lighter.report.record import read_curves


def test_several_values_of_an_epoch_are_told_by_step(tmp_path):
    rows = "epoch,step,val/metrics/dice/epoch,train/loss/step\n0,4,0.5,9\n0,9,0.6,\n1,14,nan,\n1,19,0.8,\n"
    (tmp_path / "metrics.csv").write_text(rows)
    curves = read_curves(tmp_path)
    assert curves.x == "step"
    assert curves.points == {"val/metrics/dice/epoch": [(4, 0.5), (9, 0.6), (19, 0.8)]}


def test_rows_of_training_and_of_validation_are_one_epoch(tmp_path):
    """As Lightning's own ``CSVLogger`` writes them."""
    rows = "epoch,step,train/loss/epoch,val/loss/epoch\n0,4,,0.5\n0,4,0.7,\n1,9,,0.4\n1,9,0.6,\n"
    (tmp_path / "metrics.csv").write_text(rows)
    curves = read_curves(tmp_path)
    assert curves.x == "epoch"
    assert curves.points == {"train/loss/epoch": [(1, 0.7), (2, 0.6)], "val/loss/epoch": [(1, 0.5), (2, 0.4)]}


def test_events_of_tensorboard_are_read_where_there_is_no_csv(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        for epoch in range(3):
            writer.add_scalar("epoch", epoch, 10 * epoch + 9)
            writer.add_scalar("val/loss/epoch", 0.5 / (epoch + 1), 10 * epoch + 9)
            writer.add_scalar("train/loss/step", 1.0, 10 * epoch + 3)
    curves = read_curves(tmp_path)
    assert list(curves.points) == ["val/loss/epoch"]
    assert [value for _, value in curves.points["val/loss/epoch"]] == pytest.approx([0.5, 0.25, 0.5 / 3])
    assert [x for x, _ in curves.points["val/loss/epoch"]] == [9, 19, 29]


def test_a_folder_without_logs_has_no_curves(tmp_path):
    assert read_curves(tmp_path).points == {}
