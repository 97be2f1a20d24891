import pytest
import torch
from monai.data import MetaTensor

from monai_lighter import BatchAdapter, CriterionAdapter, LoggingAdapter, MetricsAdapter
from monai_lighter.system.adapters import complete_adapters
from monai_lighter.system.batches import read_case_names


class TestBatch:
    @pytest.mark.parametrize(
        ("batch", "input", "target"),
        [
            ({"image": 1, "label": 2, "other": 3}, 1, 2),
            ({"image": 1}, 1, None),
            ((1, 2), 1, 2),
            ([1, 2, 3], 1, 2),
            ((1,), 1, None),
            (7, 7, None),
        ],
    )
    def test_with_no_accessor(self, batch, input, target):
        assert BatchAdapter()(batch) == (input, target, None)

    def test_accessors_are_indices_keys_and_functions(self):
        assert BatchAdapter(0, 1, lambda batch: "id")([1, 2]) == (1, 2, "id")
        assert BatchAdapter("a", "b", "c")({"a": 1, "b": 2, "c": 3}) == (1, 2, 3)
        assert BatchAdapter(lambda batch: batch * 2)(4) == (8, None, None)

    def test_an_input_accessor_alone_means_no_target_as_in_lighter(self):
        assert BatchAdapter("image")({"image": 1, "label": 2})[1] is None

    def test_without_a_known_input_the_whole_batch_is_it(self):
        assert BatchAdapter()({"t1": 1}) == ({"t1": 1}, None, None)

    @pytest.mark.parametrize(
        ("accessor", "batch", "message"),
        [
            (
                "x",
                {"image": 1, "label": 2},
                r"accessor 'x' must be in the batch, got a batch with keys \['image', 'label'\]",
            ),
            (5, [1, 2], "accessor 5 must be in the batch, got a batch with 2 items"),
            (
                0,
                {"image": 1},
                "must be an index for a list, a key for a dict or a function, got 0 for a batch of type dict",
            ),
            ("image", [1], "got 'image' for a batch of type list"),
        ],
    )
    def test_what_does_not_fit(self, accessor, batch, message):
        with pytest.raises(ValueError, match=message):
            BatchAdapter(accessor)(batch)

    def test_identifiers_from_metadata(self):
        image = MetaTensor(torch.zeros(2, 1), meta={"filename_or_obj": ["a.nii", "b.nii"]})
        assert BatchAdapter()({"image": image})[2] == ["a.nii", "b.nii"]
        assert read_case_names(MetaTensor(torch.zeros(1))) is None
        assert read_case_names(torch.zeros(1)) is None

    def test_key_of_the_target(self):
        assert BatchAdapter("a", "seg").target_key == "seg"
        assert BatchAdapter(0, 1).target_key == "label"


class TestArguments:
    def test_positions_names_and_transforms(self):
        def criterion(*args, **kwargs):
            return args, kwargs

        adapter = CriterionAdapter(
            input_argument="x",
            target_argument=1,
            pred_argument=0,
            pred_transforms=[lambda p: p + 1, lambda p: p * 2],
            input_transforms=str,
        )
        assert adapter(criterion, 1, 2, 3) == ((8, 2), {"x": "1"})

    def test_what_has_no_argument_is_left_out(self):
        assert MetricsAdapter(pred_argument=0)(lambda *args: args, 1, 2, 3) == (3,)

    @pytest.mark.parametrize("positions", [{"pred_argument": 1}, {"pred_argument": 0, "target_argument": 2}])
    def test_positions_have_no_gaps(self, positions):
        with pytest.raises(ValueError, match="positional arguments must be consecutive integers from 0"):
            CriterionAdapter(**positions)

    def test_positions_are_given_once(self):
        with pytest.raises(ValueError, match=r"got \[0, 0\]"):
            CriterionAdapter(pred_argument=0, target_argument=0)

    def test_transforms_of_what_is_left_out(self):
        with pytest.raises(ValueError, match="target_transforms need target_argument, got None"):
            CriterionAdapter(pred_argument=0, target_transforms=abs)

    def test_transforms_are_functions(self):
        with pytest.raises(TypeError, match="pred_transforms must be functions, got 'abs'"):
            LoggingAdapter(pred_transforms="abs")

    def test_logging(self):
        assert LoggingAdapter(abs, [abs, float], None)(-1, -2, -3) == (1, 2.0, -3)


class TestDefaults:
    def test_are_lighters_order_pred_target(self):
        adapters = complete_adapters("system::adapters::val", {"logging": LoggingAdapter(abs)})
        assert adapters["criterion"](lambda *args: args, 1, 2, 3) == (3, 2)
        assert adapters["metrics"](lambda *args: args, 1, 2, 3) == (3, 2)
        assert adapters["logging"](-1, -2, -3) == (1, -2, -3)
        assert adapters["batch"]((1, 2)) == (1, 2, None)

    def test_another_name(self):
        with pytest.raises(ValueError, match=r"system::adapters::val: must have the keys batch, .*, got 'metric'"):
            complete_adapters("system::adapters::val", {"metric": abs})
