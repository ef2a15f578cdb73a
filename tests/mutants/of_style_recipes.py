"""The mutants of a StyleGAN's training: its regularisers' weights, turns and images, and its optimisers."""

from tests.mutants.mutant import OWN, Mutant

TESTS = ("tests/test_style_recipes.py",)
KARRAS = "https://arxiv.org/abs/1912.04958"


def _mutant(name: str, function: str, old: str, new: str, story: str, source: str = OWN, **more) -> Mutant:
    return Mutant(name, "recipes/style", function, old, new, story, source, TESTS, **more)


MUTANTS = (
    _mutant(
        "r1-of-generated-images", "style_step",
        "zero_centred_penalty(lambda x: model.discriminator(seen(x)), batch.x)",
        "zero_centred_penalty(lambda x: model.discriminator(seen(x)), fake)",
        "R1 is taken at generated images. Where there are data the critic's slope is then free.",
        "https://arxiv.org/abs/1801.04406", bug=29,
    ),
    _mutant(
        "r1-in-half-precision", "style_step",
        "zero_centred_penalty(lambda x: model.discriminator(seen(x)), batch.x)",
        "zero_centred_penalty(judged, batch.x)",
        "R1 goes through the discriminator as autocast computes it. On a GPU its gradient is then off by percents.",
    ),
    _mutant(
        "r1-each-step-at-the-lazy-weight", "style_step",
        "index % objective.penalty_every == 0", "True",
        "R1 is stepped on every time, with the weight that is meant for every sixteenth: sixteen times too much.",
        KARRAS, bug=29,
    ),
    _mutant(
        "lazy-r1-not-scaled", "style_step",
        "0.5 * objective.weight * objective.penalty_every * penalty", "0.5 * objective.weight * penalty",
        "R1 is stepped on every sixteenth time, and the factor of 16 is missing: it hardly acts.",
        KARRAS, bug=29,
    ),
    _mutant(
        "lazy-path-length-not-scaled", "style_step",
        "weight = objective.path_weight * objective.path_every", "weight = objective.path_weight",
        "The path length is regularised on every fourth step, with the weight of every step.",
        KARRAS,
    ),
    _mutant(
        "path-length-out-of-turn", "style_step",
        "index % objective.path_every == 0", "index % objective.path_every == 1",
        "The first step is not regularised, and the running mean of the lengths starts later than the recipe says.",
    ),
    _mutant(
        "mean-length-never-moves", "style_step",
        "model.path_mean.lerp_(now, objective.path_decay)", "now.lerp_(model.path_mean, objective.path_decay)",
        "The lengths are held to 0 and not to their running mean: the generator is told to be constant.",
        KARRAS,
    ),
    _mutant(
        "style-through-detach", "style_step",
        "fooled = generator_loss(judged(fake), loss=objective.loss)",
        "fooled = generator_loss(judged(fake.detach().requires_grad_()), loss=objective.loss)",
        "The generator's loss is taken of images that are cut off from it. It never moves but by its regulariser.",
        "https://github.com/nikhilsinghmus/image2reverb/issues/37",
    ),
    _mutant(
        "only-real-images-augmented", "style_step",
        "critic(seen(batch.x)), critic(seen(fake.detach()))", "critic(seen(batch.x)), critic(fake.detach())",
        "Generated images are shown as they are: what has been augmented is real, and the critic knows.",
        "https://arxiv.org/abs/2006.10738",
    ),
    _mutant(
        "style-discriminator-never-thawed", "style_step",
        "model.discriminator.requires_grad_(True)", "pass",
        "The discriminator is frozen for the generator's step and never released.",
    ),
    _mutant(
        "style-never-averaged", "style_step",
        "ema.update(model)", "ema.update(ema.module)",
        "The average is updated with itself: what is kept of the training is its first weights.",
    ),
    _mutant(
        "style-norm-of-the-first-update", "style_step",
        "torch.stack(norms).amax()", "norms[0]",
        "Only the discriminator's first gradient is watched; the generator's may be NaN unseen.",
    ),
    _mutant(
        "any-penalty-goes", "StyleObjective.__post_init__",
        'if self.penalty not in ("none", "r1"):', "if False:",
        "A gradient penalty is asked for and R1 is trained with, without a word.",
    ),
    _mutant(
        "betas-not-corrected", "corrected",
        "return lr * share, (betas[0] ** share, betas[1] ** share)", "return lr * share, betas",
        "Adam takes seventeen steps where it took sixteen, and its averages forget too soon.",
        KARRAS,
    ),
    _mutant(
        "correction-upside-down", "corrected",
        "share = every / (every + 1)", "share = (every + 1) / every",
        "The rate is raised by a sixteenth where it should fall by a seventeenth.",
        KARRAS,
    ),
    _mutant(
        "corrected-unasked", "settings",
        "if weight else (lr, recipe.betas)", "if True else (lr, recipe.betas)",
        "The optimiser of a player without a regulariser is corrected for steps that nobody takes.",
    ),
    _mutant(
        "one-rate-for-both-styles", "settings",
        "recipe.lr * objective.critic_lr", "recipe.lr",
        "The discriminator's own rate is not used.",
        "https://arxiv.org/abs/1706.08500",
    ),
    _mutant(
        "first-betas-alone", "style_optimisers",
        "lr=lr, betas=betas, **options", "lr=lr, betas=(0.9, 0.999), **options",
        "Adam keeps its default betas, and with them a momentum that drives two players in a circle.",
    ),
)  # fmt: skip
