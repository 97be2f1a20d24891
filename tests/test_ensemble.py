import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from monai.transforms import MeanEnsemble, VoteEnsemble

from monai_lighter import Ensemble


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
