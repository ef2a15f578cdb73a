"""All mutants, in the order in which they are tried and shown."""

from tests.mutants import (
    of_adversarial,
    of_augment,
    of_data,
    of_degrade,
    of_evaluation,
    of_gan,
    of_hierarchy,
    of_inverse,
    of_layers,
    of_metrics,
    of_objectives,
    of_pair,
    of_prior,
    of_recipes,
    of_restoration,
    of_restore,
    of_style_recipes,
    of_stylegan,
    of_the_rest,
    of_vae,
    of_vq,
    of_w_space,
)
from tests.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    of_objectives.MUTANTS
    + of_vae.MUTANTS
    + of_vq.MUTANTS
    + of_prior.MUTANTS
    + of_hierarchy.MUTANTS
    + of_gan.MUTANTS
    + of_adversarial.MUTANTS
    + of_stylegan.MUTANTS
    + of_style_recipes.MUTANTS
    + of_w_space.MUTANTS
    + of_augment.MUTANTS
    + of_degrade.MUTANTS
    + of_restore.MUTANTS
    + of_restoration.MUTANTS
    + of_pair.MUTANTS
    + of_inverse.MUTANTS
    + of_recipes.MUTANTS
    + of_layers.MUTANTS
    + of_data.MUTANTS
    + of_metrics.MUTANTS
    + of_evaluation.MUTANTS
    + of_the_rest.MUTANTS
)
