"""The mutants of the W space: projection into it and path lengths. Those of directions are among `of_evaluation`'s."""

from tests.mutants.mutant import OWN, Mutant

PROJECTION, PATHS = "stylegan/projection", "metrics/paths"
DIRECTIONS = "evaluation/directions"
TESTS = {
    PROJECTION: ("tests/test_projection.py",),
    PATHS: ("tests/test_paths.py",),
    DIRECTIONS: ("tests/test_directions_in_w.py",),
}


def _mutant(name: str, file: str, function: str, old: str, new: str, story: str, source: str = OWN) -> Mutant:
    return Mutant(name, file, function, old, new, story, source, TESTS[file])


MUTANTS = (
    _mutant(
        "arc-as-a-line", PATHS, "slerp",
        "arc = sine > 1e-4", "arc = sine > 1e4",
        "The walk in z is a straight line: it leaves the shell on which the generator was trained, half-way most.",
        "https://arxiv.org/abs/1609.04468",
    ),
    _mutant(
        "line-that-starts-at-its-end", PATHS, "lerp",
        "return first + t[:, None] * (second - first)", "return second + t[:, None] * (first - second)",
        "The line is walked from its end. Its mean speed is the same; its start is not where it is asked for.",
    ),
    _mutant(
        "distance-in-place-of-speed", PATHS, "path_speeds",
        "return torch.cat(found) / epsilon**2", "return torch.cat(found) / epsilon",
        "The squared distance is divided by the step and not by its square: the figure shrinks with the step.",
        "https://arxiv.org/abs/1812.04948",
    ),
    _mutant(
        "paths-all-from-their-start", PATHS, "path_speeds",
        'if sampling == "full":', 'if sampling == "path":',
        "The whole path is asked for and its start is measured.",
    ),
    _mutant(
        "search-from-nothing", PROJECTION, "project",
        "return (mean + unit * (place + noise * eps))", "return (unit * (place + noise * eps))",
        "The search starts at w = 0 in place of the mean of w, where no face was ever drawn in training.",
        "https://arxiv.org/abs/1912.04958",
    ),
    _mutant(
        "new-noise-on-each-step", PROJECTION, "project",
        'generator.synthesis(styles(noise), noise="fixed")', "generator.synthesis(styles(noise))",
        "The generator draws new noise on each step. The error that is minimised changes all the time, and what is "
        "found is drawn with other noise than it was found with.",
        "https://arxiv.org/abs/1912.04958",
    ),
    _mutant(
        "errors-averaged-over-the-batch", PROJECTION, "project",
        "torch.autograd.grad(found.sum(), place)", "torch.autograd.grad(found.prod(), place)",
        "The images' errors are tied together: what one image's w does hangs on how near the others are.",
    ),
    _mutant(
        "noise-left-on-at-the-end", PROJECTION, "project",
        "return Projection(styles().clone()", "return Projection(styles(search.noise).clone()",
        "What is handed back has noise on it that the search had long taken off.",
    ),
    _mutant(
        "rate-that-never-falls", PROJECTION, "Search.rate",
        "fall = min(1.0, (1 - done) / 0.25)", "fall = 1.0",
        "The rate stays high to the end: w goes on jumping around the best place.",
    ),
    _mutant(
        "noise-that-never-fades", PROJECTION, "Search.spread",
        "max(0.0, 1 - step / self.n_steps / self.ramp) ** 2", "1.0",
        "The noise on w is as large at the end as at the start: w is never looked at itself.",
    ),
    _mutant(
        "search-without-an-aim", PROJECTION, "Search.__post_init__",
        "if not self.pixel + self.feature > 0:", "if not self.pixel + self.feature >= 0:",
        "Both weights may be 0. The search runs, and returns the mean of w for every image.",
    ),
    _mutant(
        "spread-of-w-about-0", PROJECTION, "deviation",
        "(generator.mapping(z) - mean).square()", "generator.mapping(z).square()",
        "The mean of w is counted as spread: the farther it is from 0, the larger are the search's steps.",
    ),
    _mutant(
        "penalty-of-no-unit", DIRECTIONS, "_fit",
        "(n * ridge * z[:n].var(0).mean()).sqrt()", "math.sqrt(n * ridge)",
        "The penalty has no unit of w: the wider w is spread, the less it does, and each generator gets another fit.",
    ),
    _mutant(
        "penalty-of-one-face", DIRECTIONS, "_fit",
        "(n * ridge * z[:n]", "(ridge * z[:n]",
        "The squared errors are a sum over all faces, and the penalty is weighed as if they were a mean: it is lost.",
    ),
    _mutant(
        "unit-of-the-whole-of-w", DIRECTIONS, "_deviation_along",
        "return (w @ vector).std().item()", "return w.std().item()",
        "The deviation of all coordinates is taken for that along the direction: a step is as long as any other, and "
        "may lead far outside of where w lies.",
    ),
    _mutant(
        "steps-of-length-1-in-w", DIRECTIONS, "attribute_directions",
        'unit = 1.0 if space == "z" else', 'unit = 1.0 if space else',
        "Steps in w have the length of steps in z, though nothing gives w the deviation 1: the two cannot be compared.",
    ),
    _mutant(
        "pairs-ranked-the-other-way", DIRECTIONS, "_separated",
        "scores[shown][:, None] - scores[~shown]", "scores[~shown][:, None] - scores[shown]",
        "The share of pairs in the wrong order: the better the plane, the nearer to 0.",
    ),
    _mutant(
        "w-drawn-with-new-noise", DIRECTIONS, "drawn_at",
        '{"noise": "fixed"} if hasattr', '{"noise": "random"} if hasattr',
        "Each drawing has other noise: what a step changed and what the noise changed cannot be told apart.",
    ),
    _mutant(
        "points-of-w-read-as-z", DIRECTIONS, "_read",
        "classifier(drawn_at(gan, part, space))", 'classifier(drawn_at(gan, part, "z"))',
        "Points of w go through the mapping once more before they are drawn: the images read are not theirs.",
    ),
    _mutant(
        "z-taken-for-w", DIRECTIONS, "points_in",
        "return gan.generator.mapping(z)", "return z",
        "z is handed to the layers as if it were w: nothing fails, and the images are those of no face.",
    ),
)  # fmt: skip
