import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from monai.transforms import MeanEnsemble, VoteEnsemble

from monai_lighter import Ensemble, SlidingWindowLabelInferer
from monai_lighter.ensemble import average
from monai_lighter.system.inference import infer
from monai_lighter.system.provenance import _digest_weights


def unet(seed, channels=3):
    torch.manual_seed(seed)
    return UNet(2, 1, channels, (4, 8), (2,)).eval()


@pytest.fixture
def image():
    return torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_mean_of_probabilities_is_monais(image):
    members = [unet(seed) for seed in range(3)]
    expected = MeanEnsemble()([member(image).softmax(1) for member in members])
    assert torch.allclose(Ensemble(members, activation="softmax")(image), expected, atol=1e-6)


@torch.no_grad()
def test_the_vote_is_monais(image):
    members = [unet(seed) for seed in range(3)]
    labels = [member(image).argmax(1, keepdim=True) for member in members]
    monais = torch.stack([VoteEnsemble(num_classes=3)([label[i] for label in labels])[0] for i in range(2)])
    voted = Ensemble(members, vote=True)(image)
    ties = voted.max(1).values < 0.5  # each member says another class
    assert ties.float().mean() < 0.5
    assert torch.equal(voted.argmax(1)[~ties], monais.long()[~ties])
    assert torch.allclose(voted.sum(1), torch.ones(2, 16, 16))


@torch.no_grad()
@pytest.mark.parametrize("vote", [False, True])
def test_of_sigmoids_by_hand(image, vote):
    members = [unet(seed, channels=1) for seed in range(3)]
    said = torch.stack([member(image).sigmoid() for member in members])
    expected = (said > 0.5).float().mean(0) if vote else said.mean(0)
    assert torch.allclose(Ensemble(members, activation="sigmoid", vote=vote)(image), expected, atol=1e-6)


@torch.no_grad()
def test_the_mean_of_outputs_leaves_those_of_members_as_they_are(image):
    class Same(torch.nn.Module):
        def forward(self, x):
            return x

    before = image.clone()
    assert torch.allclose(Ensemble([Same(), Same(), unet(0, 1)])(image), (2 * image + unet(0, 1)(image)) / 3, atol=1e-6)
    assert torch.equal(image, before)


@torch.no_grad()
def test_weights_of_files_for_copies_of_one_network(tmp_path, image):
    members, files = [unet(seed) for seed in (1, 2)], [tmp_path / "0.pt", tmp_path / "1.pt"]
    for member, file in zip(members, files, strict=True):
        torch.save(member.state_dict(), file)
    template = unet(0)
    before = {name: value.clone() for name, value in template.state_dict().items()}
    ensemble = Ensemble(template, [str(file) for file in files]).eval()
    assert torch.allclose(ensemble(image), Ensemble(members)(image))
    assert all(torch.equal(value, before[name]) for name, value in template.state_dict().items())


@torch.no_grad()
def test_window_by_window_is_the_mean_of_whole_results(image):
    members = [unet(seed) for seed in range(2)]
    inferer = SlidingWindowInferer((8, 8), overlap=0.5, mode="gaussian")
    whole = sum(inferer(image, lambda x, m=member: m(x).softmax(1)) for member in members) / 2
    assert torch.allclose(inferer(image, Ensemble(members, activation="softmax")), whole, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "must be as many, got 0, 0"),
        ((torch.nn.Identity(),), "weights must name a file"),
        (([torch.nn.Identity()], ["a", "b"]), "must be as many, got 1, 2"),
        (([torch.nn.Identity()], None, "sofmax"), "activation must be one of softmax, sigmoid, none, got 'sofmax'"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Ensemble(*arguments)


def test_a_softmax_over_one_channel_is_no_probability(image):
    with pytest.raises(ValueError, match="must be sigmoid for one channel"):
        Ensemble([unet(0, channels=1)], activation="softmax")(image)


class Counted(torch.nn.Module):
    """A network that notes by which of its weights it is called."""

    def __init__(self, network, calls):
        super().__init__()
        self.network, self.calls = network, calls

    def forward(self, x):
        self.calls.append(float(next(self.network.parameters()).sum()))
        return self.network(x)


@pytest.fixture
def files(tmp_path):
    """Weights of three networks."""
    paths = [tmp_path / f"{seed}.pt" for seed in range(3)]
    for seed, path in enumerate(paths):
        torch.save(unet(seed).state_dict(), path)
    return paths


def as_mean(members, inferer, image):
    return torch.stack([inferer(image, member) for member in members]).mean(0)


@torch.no_grad()
@pytest.mark.parametrize("activation", ["none", "softmax"])
def test_one_at_a_time_is_the_mean(files, image, activation):
    members = [unet(seed) for seed in range(3)]
    expected = Ensemble(members, activation=activation)(image)
    listed = Ensemble(members, activation=activation, cpu_offload=True)
    read = Ensemble(unet(9), files, activation, cpu_offload=True).eval()
    for each in (listed, read, read):
        assert torch.allclose(each(image), expected, atol=1e-6)
        inferer = SlidingWindowInferer((8, 8), overlap=0.5, mode="gaussian")
        assert torch.allclose(
            infer(inferer, image, each), inferer(image, Ensemble(members, activation=activation)), atol=1e-6
        )
    assert len(list(read.parameters())) == len(list(unet(9).parameters()))


@torch.inference_mode()
def test_each_member_sees_the_whole_before_the_next_one(image):
    calls = []
    members = [Counted(unet(seed), calls) for seed in range(3)]
    inferer = SlidingWindowInferer((8, 8), overlap=0.5)
    result = infer(inferer, image, Ensemble(members, cpu_offload=True))
    assert len({*calls}) == 3
    assert len(calls) == 3 * 18  # windows
    assert calls == sorted(calls, key=[*dict.fromkeys(calls)].index)  # one after the other
    assert torch.allclose(result, as_mean(members, inferer, image), atol=1e-6)


def test_members_that_wait_stay_on_the_cpu_and_take_other_types():
    ensemble = Ensemble([unet(0), unet(1)], cpu_offload=True)
    with ensemble.turns()[0] as _:
        pass
    assert {parameter.device.type for parameter in ensemble.half().parameters()} == {"cpu"}
    assert {parameter.dtype for parameter in ensemble.parameters()} == {torch.float16}
    ensemble.double()._place = ensemble._place.to("meta")  # a device that any machine has
    places = []
    with pytest.raises(NotImplementedError), ensemble.turns()[1]:  # nothing comes back from there
        places += [{parameter.device.type for parameter in member.parameters()} for member in ensemble.members]
    assert places == [{"cpu"}, {"meta"}]


def test_weights_of_files_are_in_the_state_by_which_predictions_are_known(files):
    states = [Ensemble(unet(0), chosen, cpu_offload=True).state_dict() for chosen in (files[:2], files[1:], files[:2])]
    digests = [_digest_weights(state) for state in states]
    assert digests[0] == digests[2] != digests[1]
    assert digests[1]


@torch.no_grad()
@pytest.mark.parametrize("offloaded", [False, True])
@pytest.mark.parametrize(("dims", "batch"), [(2, 1), (3, 4)])
def test_label_maps_are_the_largest_of_the_mean_of_whole_results(offloaded, dims, batch):
    generator = torch.Generator().manual_seed(dims)
    image = torch.rand(2, 1, *(21, 17, 13)[:dims], generator=generator)
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d if dims == 2 else torch.nn.Conv3d
    members = [convolution(1, 4, 3, padding=1) for _ in range(3)]
    arguments = {"roi_size": [8] * dims, "overlap": 0.4, "mode": "gaussian", "sw_batch_size": batch}
    full = as_mean(members, SlidingWindowInferer(**arguments), image)
    network = Ensemble(members, cpu_offload=offloaded).eval()
    labels = infer(SlidingWindowLabelInferer(**arguments), image, network)
    leads = full.topk(2, 1).values
    sure = leads[:, :1] - leads[:, 1:] > 1e-5  # else rounding decides
    assert sure.float().mean() > 0.99
    assert torch.equal(labels.long()[sure], full.argmax(1, keepdim=True)[sure])


@torch.no_grad()
def test_for_label_maps_members_take_turns_row_by_row(image):
    calls = []
    members = [Counted(unet(seed), calls) for seed in range(2)]
    inferer = SlidingWindowLabelInferer((8, 8), overlap=0.0)
    inferer(image[:1], Ensemble(members, cpu_offload=True).eval())
    first, second = dict.fromkeys(calls)
    assert calls == [first, first, second, second] * 2


@torch.no_grad()
@pytest.mark.parametrize("activation", ["none", "softmax"])
def test_the_mean_of_halves_is_rounded_once_at_most(image, activation):
    networks = [unet(seed) for seed in range(5)]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outputs = torch.stack([network(image) for network in networks]).float()
        mean = Ensemble(networks, activation=activation)(image)
    expected = (outputs if activation == "none" else outputs.softmax(2)).mean(0)
    assert torch.allclose(mean.float(), expected, atol=1e-6)


def test_the_mean_of_several_outputs():
    class Heads(torch.nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, x):
            return {"a": x * self.factor, "b": (x + self.factor, [x.sum((1, 2, 3)) * self.factor])}

    image = torch.rand(2, 1, 4, 4)
    mean = Ensemble([Heads(1.0), Heads(4.0)])(image)
    assert torch.allclose(mean["a"], image * 2.5)
    assert torch.allclose(mean["b"][0], image + 2.5)
    assert torch.allclose(mean["b"][1][0], image.sum((1, 2, 3)) * 2.5)
    for arguments in ({"activation": "softmax"}, {"vote": True}):
        with pytest.raises(ValueError, match="with several outputs, got"):
            Ensemble([Heads(1.0)], **arguments)(image)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([], "must be one or more"),
        ([torch.ones(2, dtype=torch.uint8)] * 2, "label maps have none"),
        ([torch.ones(2), torch.ones(1)], "must be of one shape"),
        ([[{"boxes": torch.ones(1, 4)}]] * 2, "boxes of several detections have no mean"),
    ],
)
def test_what_has_no_mean(outputs, message):
    with pytest.raises(ValueError, match=message):
        average(outputs)
