"""The classifiers whose features measure generators: shapes, independence of the batch, and errors."""

import pytest
import torch

from imagegen.classifier import Classifier, ClassifierConfig

CONFIG = ClassifierConfig(image_shape=(3, 16, 8), classes=(4, 2, 3), widths=(8, 12), features=5)


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    return Classifier(CONFIG).eval()


def images(n: int) -> torch.Tensor:
    return torch.rand(n, 3, 16, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_shapes(model):
    x = images(6)
    assert model.features(x).shape == (6, 5)
    assert [tuple(logits.shape) for logits in model(x)] == [(6, 4), (6, 2), (6, 3)]


def test_each_head_reads_the_features_and_no_two_agree(model):
    """The logits of attribute a are head a of the features."""
    x = images(4)
    for head, logits in zip(model.heads, model(x), strict=True):
        torch.testing.assert_close(head(model.features(x)), logits)
    assert len({tuple(logits[0].tolist()) for logits in model(x)}) == 3


def test_an_images_features_do_not_depend_on_its_batch(model):
    x = images(6)
    torch.testing.assert_close(model.features(x)[2:3], model.features(x[2:3]))


def test_features_see_where_a_thing_is():
    """A dot moved by four pixels changes the features, though no average over places of what they read does."""
    torch.manual_seed(0)
    model = Classifier(ClassifierConfig(image_shape=(1, 32, 32), classes=(2,), widths=(4, 8))).eval()
    x, y = torch.zeros(2, 1, 1, 32, 32)
    x[..., 12, 12] = y[..., 16, 16] = 1.0
    flat = next(i for i, layer in enumerate(model.trunk) if isinstance(layer, torch.nn.Flatten))
    maps = [model.trunk[:flat](image) for image in (x, y)]  # (1, 8, 8, 8)
    torch.testing.assert_close(maps[0].mean((2, 3)), maps[1].mean((2, 3)))
    assert (maps[0] - maps[1]).abs().max() > 1e-2
    assert (model.features(x) - model.features(y)).abs().max() > 1e-3


def test_it_learns_two_attributes_of_8_images():
    torch.manual_seed(0)
    model = Classifier(ClassifierConfig(image_shape=(1, 8, 8), classes=(2, 4), widths=(8,), dropout=0.0))
    x = torch.rand(8, 1, 8, 8) * 2 - 1
    labels = torch.stack([torch.arange(8) % 2, torch.arange(8) // 2], dim=1)
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        nats = sum(
            torch.nn.functional.cross_entropy(row, label) for row, label in zip(model(x), labels.unbind(1))
        )
        adam.zero_grad()
        nats.backward()
        adam.step()
    assert nats < 0.1  # guessing costs log 2 + log 4 = 2.08


def test_another_shape_is_refused(model):
    with pytest.raises(ValueError, match=r"images of shape \(2, 3, 8, 16\), expected \(B, 3, 16, 8\)"):
        model.features(torch.zeros(2, 3, 8, 16))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_shape": (3, 30, 32)}, "multiples of 4 to be halved 2 times"),
        ({"image_shape": (0, 28, 28)}, r"image_shape is \(0, 28, 28\)"),
        ({"classes": ()}, r"classes is \(\)"),
        ({"classes": (10, 1)}, r"classes is \(10, 1\)"),
        ({"widths": ()}, r"widths \(\)"),
        ({"features": 0}, "features 0 must be at least 1"),
        ({"blocks": -1}, "blocks -1 at least 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ClassifierConfig(**fields)
