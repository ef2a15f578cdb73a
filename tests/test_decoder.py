"""The network that draws an image from its attributes: what it is told, what is withheld, and errors."""

import itertools

import pytest
import torch

from imagegen.decoder import WITHHELD, AttributeDecoder, AttributeDecoderConfig

CONFIG = AttributeDecoderConfig(
    image_shape=(3, 16, 8), attributes=(2, 3), widths=(8, 6), neck=4, hidden=16, dense_blocks=1
)


@pytest.fixture
def model() -> AttributeDecoder:
    torch.manual_seed(0)
    return AttributeDecoder(CONFIG).eval()


def test_conditions_are_one_hot_blocks_and_a_withheld_block_is_empty(model):
    labels = torch.tensor([[0, 2], [1, WITHHELD], [WITHHELD, 0], [WITHHELD, WITHHELD]])
    expected = [[1, 0, 0, 0, 1], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]
    conditions = model.conditions(labels)
    assert conditions.tolist() == expected and conditions.dtype == torch.float32


def test_shapes_follow_the_config(model):
    assert model(torch.zeros(5, 5)).shape == (5, 3, 16, 8)


def test_every_description_draws_another_image(model):
    labels = torch.tensor(list(itertools.product((-1, 0, 1), (-1, 0, 1, 2))))
    drawn = model(model.conditions(labels)).flatten(1)
    distances = torch.cdist(drawn, drawn) + torch.eye(len(labels))
    assert distances.min() > 1e-4


def test_untold_of_one_attribute_it_learns_the_mean_of_all_that_fit():
    """Six flat images; with an attribute withheld, the least squared error is at the mean grey of those that fit."""
    torch.manual_seed(0)
    config = AttributeDecoderConfig(
        image_shape=(1, 4, 4), attributes=(2, 3), widths=(8,), neck=4, hidden=32, dense_blocks=1
    )
    model = AttributeDecoder(config)
    known = torch.tensor(list(itertools.product(range(2), range(3))))
    grey = torch.tensor([0.1, 0.2, 0.9, 0.3, 0.8, 0.7])
    adam = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(400):
        labels = known.repeat(3, 1)
        labels[6:12, 0] = WITHHELD
        labels[12:, 1] = WITHHELD
        drawn = torch.sigmoid(model(model.conditions(labels)))
        loss = (drawn - grey.repeat(3).view(-1, 1, 1, 1)).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        labels = torch.tensor([[1, 1], [0, WITHHELD], [1, WITHHELD], [WITHHELD, 0]])
        drawn = torch.sigmoid(model(model.conditions(labels))).mean(dim=(1, 2, 3))
    torch.testing.assert_close(drawn, torch.tensor([0.8, 0.4, 0.6, 0.2]), atol=0.02, rtol=0)


def test_labels_that_make_no_sense_are_refused(model):
    with pytest.raises(ValueError, match="label 3 of attribute 1, expected -1 .withheld. to 2"):
        model.conditions(torch.tensor([[0, 0], [1, 3]]))
    with pytest.raises(ValueError, match="label -2 of attribute 0"):
        model.conditions(torch.tensor([[-2, 0]]))
    with pytest.raises(ValueError, match=r"labels of shape \(2, 3\), expected \(B, 2\)"):
        model.conditions(torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(TypeError, match="expected int64 labels, got torch.float32"):
        model.conditions(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"conditions of shape \(2, 4\), expected \(B, 5\)"):
        model(torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_shape": (3, 60, 64)}, "multiples of 8 to be doubled 3 times"),
        ({"image_shape": (3, 64)}, r"image_shape is \(3, 64\)"),
        ({"attributes": (3, 1)}, r"attributes is \(3, 1\)"),
        ({"widths": ()}, r"widths \(\)"),
        ({"neck": 0}, "neck 0"),
        ({"dense_blocks": -1}, "dense_blocks -1"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        AttributeDecoderConfig(**fields)
