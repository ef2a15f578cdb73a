"""Data: where Fashion-MNIST is looked for, what is refused, batches as a function of (seed, step), and the toys."""

import gzip
import math
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import scipy.stats
import torch
import torchvision.datasets
from torch import Tensor
from torch.testing import assert_close

from imagegen import data
from imagegen.data import Batches, DataError, LinearGaussian, fashion

NAMES = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
]
LABELS = "t10k-labels-idx1-ubyte.gz"


@pytest.fixture(scope="session")
def found() -> Path:
    """The folder of the real Fashion-MNIST."""
    return data.fetch_fashion_mnist()


def link(source: Path, target: Path) -> Path:
    target.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (target / name).symlink_to(source / name)
    return target


@pytest.fixture
def places(tmp_path, monkeypatch) -> SimpleNamespace:
    """The three places in which data is looked for, all empty, with no way to the internet or to apt."""
    there = SimpleNamespace(named=tmp_path / "named", user=tmp_path / "user", debian=tmp_path / "debian")
    for folder in vars(there).values():
        folder.mkdir()
    monkeypatch.setenv("IMAGEGEN_DATA", str(there.named))
    monkeypatch.setattr(fashion.platformdirs, "user_cache_dir", lambda name: str(there.user))
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", there.debian)
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", no_internet)
    monkeypatch.setattr(fashion.subprocess, "run", lambda *a, **k: pytest.fail(f"ran {a}"))
    monkeypatch.setattr(fashion.os, "geteuid", lambda: 1000)
    return there


def no_internet(root, download):
    raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")


# ---- what is read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "n"), [("train", 60_000), ("test", 10_000)])
def test_fashion_mnist_is_what_its_authors_describe(found, split, n):
    images, labels, classes = data.fashion_mnist(split)
    assert images.shape == (n, 1, 28, 28) and images.dtype == torch.uint8
    assert (images.amin().item(), images.amax().item()) == (0, 255)
    assert labels.shape == (n,) and labels.dtype == torch.int64
    assert torch.bincount(labels).tolist() == [n // 10] * 10
    assert len(classes) == 10 and classes[1] == "trouser" and classes[9] == "ankle boot"


def test_images_and_labels_belong_together(found):
    """The mean image of the trousers is lit in two legs, and the mean bag is the widest of all."""
    images, labels, classes = data.fashion_mnist("test")
    mean = torch.stack([images[labels == k].float().mean(0)[0] for k in range(10)])
    legs = mean[classes.index("trouser"), 22]
    assert legs[14] < 0.7 * legs[11:13].max() and legs[14] < 0.7 * legs[16:18].max()
    width = (mean[:, 14] > 60).sum(1)
    assert width[classes.index("bag")] > 2 * width[classes.index("trouser")]


def test_another_split_is_refused():
    with pytest.raises(ValueError, match="'train' or 'test', got 'validation'"):
        data.fashion_mnist("validation")


# ---- where it is looked for ------------------------------------------------------------------------------------


def fill(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        (folder / name).write_bytes(b"")
    return folder


def test_the_named_folder_comes_first_then_the_users_cache_then_debians(places):
    assert data.find_fashion_mnist() is None
    for folder in (
        places.debian,
        places.user / "fashion-mnist",
        places.named / "fashion-mnist",
        places.named,
    ):
        assert fill(folder) == data.find_fashion_mnist()


def test_without_a_named_folder_the_users_cache_is_it(places, monkeypatch):
    monkeypatch.delenv("IMAGEGEN_DATA")
    assert data.cache_folder() == places.user
    fill(places.debian)
    assert data.find_fashion_mnist() == places.debian
    fill(places.named)
    assert data.find_fashion_mnist() == places.debian
    assert fill(places.user / "fashion-mnist") == data.find_fashion_mnist()


def test_a_folder_that_lacks_a_file_is_passed_over(places):
    fill(places.named)
    (places.named / LABELS).unlink()
    assert data.find_fashion_mnist() is None
    fill(places.debian)
    assert data.find_fashion_mnist() == places.debian


def test_the_named_folder_may_start_at_home(monkeypatch):
    monkeypatch.setenv("IMAGEGEN_DATA", "~/pictures")
    assert data.cache_folder() == Path.home() / "pictures"


# ---- what is refused -------------------------------------------------------------------------------------------


def damaged(content: bytes, how: str) -> bytes:
    if how == "truncated":
        return content[: len(content) // 2]
    if how == "a byte flipped":
        middle = len(content) // 2
        return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]
    if how == "an invalid block":  # the deflate stream itself is broken: gzip raises an error of another kind
        return content[:30] + b"\xff" * 64 + content[94:]
    if how == "no gzip file":
        return gzip.decompress(content)
    if how == "empty":
        return b""
    assert how == "one label altered"
    plain = bytearray(gzip.decompress(content))
    plain[-1] = (plain[-1] + 1) % 10
    return gzip.compress(bytes(plain))


@pytest.mark.parametrize(
    "how", ["truncated", "a byte flipped", "an invalid block", "no gzip file", "empty", "one label altered"]
)
def test_a_damaged_file_is_refused_by_name(found, places, how):
    link(found, places.named)
    (places.named / LABELS).unlink()
    (places.named / LABELS).write_bytes(damaged((found / LABELS).read_bytes(), how))
    with pytest.raises(DataError, match=r"truncated|altered") as caught:
        data.fashion_mnist("test")
    assert str(places.named / LABELS) in str(caught.value) and "delete it" in str(caught.value)


def test_a_damaged_train_set_does_not_hide_the_test_set(found, places):
    link(found, places.named)
    (places.named / NAMES[0]).unlink()
    (places.named / NAMES[0]).write_bytes(b"\x1f\x8b broken")
    with pytest.raises(DataError, match=NAMES[0]):
        data.fashion_mnist("train")
    assert len(data.fashion_mnist("test").images) == 10_000


def test_the_same_bytes_compressed_anew_are_accepted(found, places):
    link(found, places.named)
    again = gzip.compress(gzip.decompress((found / LABELS).read_bytes()), compresslevel=1)
    assert again != (found / LABELS).read_bytes()
    (places.named / LABELS).unlink()
    (places.named / LABELS).write_bytes(again)
    assert len(data.fashion_mnist("test").labels) == 10_000


def test_the_report_lists_every_file_with_its_verdict(found, places):
    assert [row["verdict"] for row in data.report()] == ["missing"] * 4 + ["ok"]
    assert {row["folder"] for row in data.report()[:4]} == {"-"}
    link(found, places.named)
    (places.named / LABELS).unlink()
    (places.named / LABELS).write_bytes(b"")
    assert [row["name"] for row in data.report()] == ["fashion-mnist"] * 4 + ["avatars"]
    rows = fashion.report_fashion_mnist()
    assert [row["file"] for row in rows] == NAMES
    assert {(row["name"], row["folder"]) for row in rows} == {("fashion-mnist", str(places.named))}
    assert [row["verdict"] for row in rows[:3]] == ["ok"] * 3
    assert LABELS in rows[3]["verdict"] and rows[3]["verdict"] != "ok"


# ---- fetching --------------------------------------------------------------------------------------------------


def test_missing_data_names_the_places_and_the_three_ways(places):
    for call in (lambda: data.fashion_mnist("test"), lambda: data.fashion_mnist("test", download=False)):
        with pytest.raises(DataError) as caught:
            call()
        message = str(caught.value)
        for part in (
            "IMAGEGEN_DATA",
            "imagegen data --fetch",
            "apt-get install dataset-fashion-mnist",
            str(places.named),
            str(places.user),
            str(places.debian),
        ):
            assert part in message


def test_without_download_nothing_is_fetched(places, monkeypatch):
    monkeypatch.setattr(fashion, "fetch_fashion_mnist", lambda: pytest.fail("fetched"))
    with pytest.raises(DataError):
        data.fashion_mnist("train", download=False)


def test_what_is_there_is_not_fetched_again(found, places, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", lambda *a, **k: pytest.fail("downloaded"))
    link(found, places.debian)
    assert data.fetch_fashion_mnist() == places.debian


def downloads(found: Path, damage: str | None = None):
    """Return a stand-in for torchvision's class that leaves the files where torchvision does."""

    def fashion_mnist(root, download):
        assert download
        raw = Path(root) / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        for name in NAMES:
            if name == damage:
                (raw / name).write_bytes(b"an error page")
            else:
                (raw / name).symlink_to(found / name)

    return fashion_mnist


def test_a_download_goes_to_the_named_folder_and_is_found_there(found, places, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", downloads(found))
    monkeypatch.setenv("IMAGEGEN_DATA", str(places.named / "new"))
    images = data.fashion_mnist("test").images
    folder = places.named / "new" / "fashion-mnist"
    assert len(images) == 10_000 and data.find_fashion_mnist() == folder
    assert sorted(os.listdir(folder)) == sorted(NAMES)


def test_a_broken_download_leaves_nothing_behind(found, places, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", downloads(found, damage=LABELS))
    with pytest.raises(DataError, match="Three ways") as caught:
        data.fetch_fashion_mnist()
    assert isinstance(caught.value.__cause__, DataError) and LABELS in str(caught.value.__cause__)
    assert os.listdir(places.named / "fashion-mnist") == []


@pytest.fixture
def debian(places, monkeypatch) -> list[list[str]]:
    """A Debian on which we are root; the commands it is given, which install nothing, are kept."""
    ran: list[list[str]] = []

    def run(command, **options):
        ran.append(command)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(fashion.subprocess, "run", run)
    monkeypatch.setattr(fashion.os, "geteuid", lambda: 0)
    monkeypatch.setattr(fashion.shutil, "which", lambda name: f"/usr/bin/{name}")
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda p: str(p) == "/etc/debian_version" or exists(p))
    return ran


def test_root_on_debian_installs_the_package_when_the_download_fails(found, places, debian, monkeypatch):
    run = fashion.subprocess.run

    def install(command, **options):
        if "install" in command:
            link(found, places.debian)
        return run(command, **options)

    monkeypatch.setattr(fashion.subprocess, "run", install)
    assert data.fetch_fashion_mnist() == places.debian
    assert [command[:2] for command in debian] == [["apt-get", "update"], ["apt-get", "install"]]
    assert debian[1][-1] == "dataset-fashion-mnist"


def test_a_package_that_brings_nothing_ends_in_the_three_ways(debian):
    with pytest.raises(DataError, match="Three ways"):
        data.fetch_fashion_mnist()
    assert len(debian) == 2


@pytest.mark.parametrize("lacking", ["root", "apt-get"])
def test_apt_is_left_alone_where_it_cannot_work(debian, monkeypatch, lacking):
    if lacking == "root":
        monkeypatch.setattr(fashion.os, "geteuid", lambda: 1000)
    else:
        monkeypatch.setattr(fashion.shutil, "which", lambda name: None)
    with pytest.raises(DataError, match="Three ways"):
        data.fetch_fashion_mnist()
    assert debian == []


# ---- batches ---------------------------------------------------------------------------------------------------


def numbered(n: int) -> tuple[Tensor, Tensor]:
    """Return n images, the k-th of which is k all over, and their numbers."""
    numbers = torch.arange(n)
    return numbers.to(torch.uint8).reshape(n, 1, 1, 1).expand(n, 1, 2, 3).contiguous(), numbers


def shown(x: Tensor) -> list[int]:
    """Return the numbers of the images of a batch."""
    return ((x[:, 0, 0, 0] + 1) * 127.5).round().long().tolist()


def test_a_batch_is_in_range_and_its_labels_belong_to_its_images():
    images, labels = numbered(50)
    batch = Batches(images, labels, batch_size=8, seed=0).at(3)
    assert batch.x.shape == (8, 1, 2, 3) and batch.x.dtype == torch.float32
    assert batch.labels.shape == (8,) and batch.labels.dtype == torch.int64
    assert shown(batch.x) == batch.labels.tolist()
    assert Batches(images, batch_size=8, seed=0).at(3).labels is None
    whole = Batches(torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1), batch_size=2, seed=0).at(0)
    assert sorted(whole.x.flatten().tolist()) == [-1.0, 1.0]


def test_codes_are_handed_on_as_they_are():
    """int64 grids, of any values: the same shuffle as of images, and no change of range."""
    _, numbers = numbered(50)
    codes = (1000 * numbers).reshape(50, 1, 1).expand(50, 2, 3)
    batch = Batches(codes, numbers, batch_size=8, seed=0).at(3)
    assert batch.x.shape == (8, 2, 3) and batch.x.dtype == torch.int64
    assert (batch.x == 1000 * batch.labels[:, None, None]).all()
    assert batch.labels.equal(Batches(*numbered(50), batch_size=8, seed=0).at(3).labels)


def test_a_batch_is_a_function_of_seed_and_step_alone():
    images, labels = numbered(20)
    forward, backward = (Batches(images, labels, batch_size=6, seed=5) for _ in range(2))
    steps = list(range(10))
    one = {step: forward.at(step).labels.tolist() for step in steps}
    torch.manual_seed(123)
    other = {step: backward.at(step).labels.tolist() for step in reversed(steps)}
    assert one == other
    before = torch.random.get_rng_state()
    forward.at(30)
    assert torch.random.get_rng_state().equal(before)  # the seed of anything else is left alone
    walked = [batch.labels.tolist() for _, batch in zip(steps, Batches(images, labels, batch_size=6, seed=5))]
    assert walked == list(one.values())


def test_seeds_and_epochs_shuffle_differently():
    images, labels = numbered(50)
    batches = [Batches(images, labels, batch_size=50, seed=seed) for seed in range(4)]
    epochs = {tuple(b.at(epoch).labels.tolist()) for b in batches for epoch in range(4)}
    assert len(epochs) == 16 and tuple(range(50)) not in epochs


@pytest.mark.parametrize(("n", "batch_size", "per_epoch"), [(20, 5, 4), (20, 6, 3), (7, 7, 1), (3, 1, 3)])
def test_an_epoch_visits_no_image_twice_and_all_that_fill_a_batch(n, batch_size, per_epoch):
    images, labels = numbered(n)
    batches = Batches(images, labels, batch_size=batch_size, seed=1)
    assert batches.steps_per_epoch == per_epoch
    for epoch in range(3):
        steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        seen = [k for step in steps for k in batches.at(step).labels.tolist()]
        assert len(seen) == len(set(seen)) == per_epoch * batch_size


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_processes_share_the_global_batch(world_size):
    images, labels = numbered(20)
    whole = Batches(images, labels, batch_size=6, seed=2)
    parts = [
        Batches(images, labels, batch_size=6, seed=2, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for step in range(7):
        shares = [part.at(step).labels.tolist() for part in parts]
        assert {len(share) for share in shares} == {6 // world_size}
        assert sum(shares, []) == whole.at(step).labels.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0, expected between 1 and the 10 images"),
        ({"batch_size": 11}, "batch_size is 11"),
        ({"batch_size": 5, "world_size": 2}, "batch_size 5 cannot be shared by rank 0 of 2"),
        ({"batch_size": 4, "world_size": 2, "rank": 2}, "rank 2 of 2"),
        ({"batch_size": 4, "world_size": 2, "rank": -1}, "rank -1 of 2"),
        ({"batch_size": 4, "world_size": 0}, "rank 0 of 0"),
        ({"batch_size": 4, "labels": torch.zeros(9)}, "10 images and 9 labels differ"),
    ],
)
def test_batches_that_cannot_be_made_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Batches(numbered(10)[0], **{"seed": 0} | options)


def test_a_step_before_the_first_and_images_without_a_known_range_are_refused():
    images, _ = numbered(10)
    with pytest.raises(ValueError, match="step is -1"):
        Batches(images, batch_size=2, seed=0).at(-1)
    with pytest.raises(TypeError, match="uint8"):
        Batches(images.float(), batch_size=2, seed=0).at(0)


# ---- toys ------------------------------------------------------------------------------------------------------


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def within_4_errors(draws: Tensor, value: float, *, scale: float) -> None:
    """The mean of the draws is the value, judged by its standard error, which must be below 1 % of the scale."""
    error = draws.double().std().item() / math.sqrt(len(draws))
    assert error < 0.01 * scale
    assert abs(draws.double().mean().item() - value) < 4 * error


MODEL = LinearGaussian(
    torch.tensor([[1.0, 0.5], [-0.3, 1.2], [0.8, 0.4]], dtype=torch.float64),
    torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64),
    0.7,
)


def test_linear_gaussian_samples_have_the_moments_of_the_model():
    x = MODEL.sample(100_000, generator=seeded())
    assert x.shape == (100_000, 3) and x.dtype == torch.float64
    covariance = MODEL.weight @ MODEL.weight.T + 0.49 * torch.eye(3)
    for i in range(3):
        within_4_errors(x[:, i], MODEL.bias[i].item(), scale=covariance[i, i].item() ** 0.5)
        for j in range(i + 1):
            product = (x[:, i] - MODEL.bias[i]) * (x[:, j] - MODEL.bias[j])
            within_4_errors(product, covariance[i, j].item(), scale=1.0)
    assert MODEL.sample(4, generator=seeded(1)).equal(MODEL.sample(4, generator=seeded(1)))


def test_linear_gaussian_log_marginal_agrees_with_scipy():
    x = MODEL.sample(6, generator=seeded(2))
    covariance = MODEL.weight @ MODEL.weight.T + 0.49 * torch.eye(3)
    expected = scipy.stats.multivariate_normal(MODEL.bias.numpy(), covariance.numpy()).logpdf(x.numpy())
    found = MODEL.log_marginal(x)
    assert found.shape == (6,)
    assert_close(found, torch.as_tensor(expected), rtol=1e-6, atol=1e-6)


def test_linear_gaussian_posterior_explains_x_exactly():
    """log p(x, z) - log p(z | x) is log p(x), whatever z."""
    x = MODEL.sample(6, generator=seeded(3))
    mean, covariance = MODEL.posterior(x)
    assert mean.shape == (6, 2) and covariance.shape == (2, 2)
    z = torch.randn(6, 2, generator=seeded(4), dtype=torch.float64)
    normal = torch.distributions.Normal
    joint = normal(z @ MODEL.weight.T + MODEL.bias, 0.7).log_prob(x).sum(1) + normal(0.0, 1.0).log_prob(
        z
    ).sum(1)
    posterior = torch.distributions.MultivariateNormal(mean, covariance).log_prob(z)
    assert_close(joint - posterior, MODEL.log_marginal(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("weight", "bias", "std", "message"),
    [
        ((3, 2), (2,), 1.0, r"weight \(3, 2\) and bias \(2,\)"),
        ((3,), (3,), 1.0, r"weight \(3,\) and bias \(3,\)"),
        ((3, 2), (3,), 0.0, "noise_std is 0.0"),
        ((3, 2), (3,), math.nan, "noise_std is nan"),
    ],
)
def test_a_linear_gaussian_that_is_none_is_refused(weight, bias, std, message):
    with pytest.raises(ValueError, match=message):
        LinearGaussian(torch.zeros(weight), torch.zeros(bias), std)


@pytest.mark.parametrize("generator", [None, torch.Generator()], ids=["no generator", "one on the processor"])
def test_the_device_of_a_linear_gaussian_is_that_of_its_weight(generator):
    """On the device `meta`, which computes shapes alone, whatever stays on the processor cannot be combined."""
    model = LinearGaussian(MODEL.weight.to("meta"), MODEL.bias.to("meta"), 0.7)
    x = model.sample(5, generator=generator)
    assert x.device.type == "meta" and x.shape == (5, 3)
    mean, covariance = model.posterior(x)
    assert mean.device.type == covariance.device.type == "meta"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gaussian_2d_has_the_covariance_asked_for(dtype):
    covariance = torch.tensor([[13.0, 12.0], [12.0, 13.0]], dtype=dtype)
    x = data.gaussian_2d(100_000, covariance, generator=seeded())
    assert x.shape == (100_000, 2) and x.dtype == dtype
    for i, j in ((0, 0), (0, 1), (1, 1)):
        within_4_errors(x[:, i] * x[:, j], covariance[i, j].item(), scale=12.0)
    for i in (0, 1):
        within_4_errors(x[:, i], 0.0, scale=13**0.5)


def test_gaussian_2d_refuses_what_is_no_covariance():
    with pytest.raises(ValueError, match=r"\(2, 2\), got \(3, 3\)"):
        data.gaussian_2d(5, torch.eye(3))
    with pytest.raises(ValueError, match=r"\[\[1.0, 0.5\], \[0.0, 1.0\]\] is not symmetric"):
        data.gaussian_2d(5, torch.tensor([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(torch.linalg.LinAlgError):
        data.gaussian_2d(5, torch.tensor([[1.0, 2.0], [2.0, 1.0]]))


RING = [(3 * math.cos(k * math.tau / 6), 3 * math.sin(k * math.tau / 6)) for k in range(6)]
GRID = [(1.5 * (k % 3 - 1), 1.5 * (k // 3 - 1)) for k in range(9)]


@pytest.mark.parametrize(
    ("draw", "centres"),
    [
        (lambda: data.ring_of_gaussians(20_000, modes=6, radius=3.0, std=0.1, generator=seeded()), RING),
        (lambda: data.grid_of_gaussians(20_000, side=3, spacing=1.5, std=0.1, generator=seeded()), GRID),
    ],
    ids=["ring", "grid"],
)
def test_each_mode_is_a_gaussian_at_its_place(draw, centres):
    points, mode = draw()
    assert points.shape == (20_000, 2) and mode.shape == (20_000,)
    share = torch.bincount(mode, minlength=len(centres)).double() / 20_000
    p = 1 / len(centres)
    assert len(share) == len(centres) and (share - p).abs().max() < 4.5 * math.sqrt(p * (1 - p) / 20_000)
    for k, centre in enumerate(centres):
        offset = points[mode == k] - torch.tensor(centre)
        for axis in (0, 1):
            within_4_errors(offset[:, axis], 0.0, scale=1.0)
    offset = points - torch.tensor(centres)[mode]
    within_4_errors(offset.square().flatten(), 0.01, scale=0.01)
    assert offset.prod(1).mean().abs() < 4 * 0.01 / math.sqrt(20_000)


@pytest.mark.parametrize(("modes", "radius"), [(1, 2.0), (6, 3.0), (8, 2.0)])
def test_the_centres_of_a_ring_are_those_its_points_lie_around(modes, radius):
    centres = data.ring_centres(modes, radius)
    turn = math.tau / modes
    by_hand = [[radius * math.cos(k * turn), radius * math.sin(k * turn)] for k in range(modes)]
    assert_close(centres, torch.tensor(by_hand))
    points, mode = data.ring_of_gaussians(100, modes=modes, radius=radius, std=0.0, generator=seeded())
    assert_close(points, centres[mode], rtol=0, atol=0)
    assert_close(data.ring_centres(), data.ring_centres(8, 2.0), rtol=0, atol=0)


def test_a_ring_without_modes_is_refused():
    with pytest.raises(ValueError, match="modes is 0"):
        data.ring_centres(0)


def test_the_toys_have_as_many_modes_as_they_say():
    assert data.ring_of_gaussians(1000, generator=seeded())[1].unique().tolist() == list(range(8))
    assert data.grid_of_gaussians(2000, generator=seeded())[1].unique().tolist() == list(range(25))
    points, _ = data.ring_of_gaussians(500, std=0.0, generator=seeded())
    assert_close(points.norm(dim=1), torch.full((500,), 2.0))
    points, _ = data.grid_of_gaussians(2000, std=0.0, generator=seeded())
    assert points[:, 0].unique().tolist() == points[:, 1].unique().tolist() == [-4.0, -2.0, 0.0, 2.0, 4.0]
