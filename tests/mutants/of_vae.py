"""The mutants of `vae`: the draw of z, and what encoder and decoder promise about their outputs."""

from tests.mutants.mutant import OWN, Mutant

TESTS = ("tests/test_vae.py", "tests/test_vae_derivation.py")


def _mutant(name: str, function: str, old: str, new: str, story: str, source: str = OWN, **more) -> Mutant:
    return Mutant(name, "vae", function, old, new, story, source, more.pop("tests", TESTS), **more)


_DRAW = "mean + torch.exp(0.5 * log_var) * eps"

DRAW = (
    _mutant(
        "variance-where-the-std-belongs", "reparameterise",
        _DRAW, "mean + torch.exp(log_var) * eps",
        "exp(log_var) is the variance; the noise must be scaled by its root, exp(log_var / 2). Only at a variance of 1 "
        "do the two agree, and that is where training starts.",
        "https://github.com/rachtsingh/ibp_vae/issues/3",
        bug=3, equation="vae-reparameterisation",
    ),
    _mutant(
        "log-variance-where-the-std-belongs", "reparameterise",
        _DRAW, "mean + log_var * eps",
        "The network's output scales the noise as it is, as if it were sigma. The KL takes it for a log-variance: a "
        "posterior equal to the prior then has no noise at all.",
        "https://github.com/twairball/keras_lstm_vae/issues/1",
        bug=2, equation="vae-reparameterisation",
    ),
    _mutant(
        "std-upside-down", "reparameterise",
        _DRAW, "mean + torch.exp(-0.5 * log_var) * eps",
        "A sign is lost, and the draw is wide where the posterior says it is narrow.",
        equation="vae-reparameterisation",
    ),
    _mutant(
        "noise-drawn-but-not-used", "reparameterise",
        _DRAW, "mean + torch.exp(0.5 * log_var)",
        "The noise is drawn and then forgotten in the sum. z is a fixed function of the image: an autoencoder.",
        "https://github.com/twairball/keras_lstm_vae/issues/1",
        equation="vae-reparameterisation",
    ),
    _mutant(
        "noise-a-hundred-times-too-small", "reparameterise",
        _DRAW, "mean + torch.exp(0.5 * log_var) * 0.01 * eps",
        "The noise is scaled down because the pictures look sharper. The KL still assumes full noise, so the loss is "
        "far below anything that a bound could reach.",
        "https://github.com/keras-team/keras/pull/4211",
        equation="vae-reparameterisation",
    ),
    _mutant(
        "uniform-noise", "reparameterise",
        "torch.randn(mean.shape,", "torch.rand(mean.shape,",
        "One letter is missing: uniform noise between 0 and 1 in place of normal noise. Its mean is not 0 either.",
        "https://github.com/graviraja/pytorch-sample-codes/issues/3",
        equation="vae-reparameterisation",
    ),
    _mutant(
        "one-noise-for-the-batch", "reparameterise",
        "torch.randn(mean.shape,", "torch.randn(mean.shape[1:],",
        "One draw is shared by all images of a batch. Each z has the right distribution, but the errors of a batch no "
        "longer average out.",
        equation="vae-reparameterisation",
    ),
    _mutant(
        "one-noise-for-all-latents", "reparameterise",
        "torch.randn(mean.shape,", "torch.randn((*mean.shape[:-1], 1),",
        "One draw is shared by all dimensions of z. Each has the right variance, but the posterior is a line and not a "
        "cloud.",
        equation="vae-reparameterisation",
    ),
    _mutant(
        "draw-without-gradient", "reparameterise",
        f"return {_DRAW}", f"return ({_DRAW}).detach()",
        "z is drawn as from `sample` and not as from `rsample`: no gradient passes, and the reconstruction teaches the "
        "encoder nothing. The KL alone then closes every latent.",
        equation="vae-pathwise",
    ),
    _mutant(
        "gradient-through-the-mean-alone", "reparameterise",
        _DRAW, "mean + torch.exp(0.5 * log_var.detach()) * eps",
        "The standard deviation is cut from the graph: the KL alone trains it, and pulls it to 1.",
        equation="vae-pathwise",
    ),
    _mutant(
        "draw-ignores-its-generator", "reparameterise",
        "torch.randn(mean.shape, generator=generator,", "torch.randn(mean.shape,",
        "The random generator that the caller passes is not used: a run cannot be repeated.",
    ),
    _mutant(
        "draw-may-broadcast", "reparameterise",
        "if mean.shape != log_var.shape:", "if mean.dim() != log_var.dim():",
        "A log-variance of another shape is stretched over the means, silently.",
    ),
)  # fmt: skip

MODEL = (
    _mutant(
        "images-of-odd-size", "VAEConfig.__post_init__",
        "self.image_shape[1] % 4 or self.image_shape[2] % 4", "self.image_shape[1] % 2 or self.image_shape[2] % 2",
        "An image whose side cannot be halved twice is accepted. The decoder's picture is then smaller than the image.",
    ),
    _mutant(
        "network-of-no-size", "VAEConfig.__post_init__",
        "if getattr(self, name) < 1:", "if getattr(self, name) < 0:",
        "A size of 0 is accepted: the network has a layer of no units, and learns nothing without a complaint.",
    ),
    _mutant(
        "networks-exchanged", "_EncoderDecoder.__init__",
        'if config.network == "conv"', 'if config.network != "conv"',
        "The configuration says convolutions and the model is built of dense layers, or the other way round.",
    ),
    _mutant(
        "batch-norm-on-mean-and-log-variance", "VAE.__init__",
        "super().__init__(config, numbers=2)",
        "super().__init__(config, numbers=2)\n"
        "        self.encoder.append(nn.BatchNorm1d(2 * config.latent_dim))",
        "BatchNorm stands on mean and log-variance. An image's posterior then depends on the other images of its "
        "batch, and the KL cannot go to 0 for all of them at once.",
        "https://github.com/HiroIshida/mohou/pull/228",
        bug=9,
    ),
    _mutant(
        "mean-and-log-variance-exchanged", "VAE.encode",
        "mean, log_var = self._encode(x)", "log_var, mean = self._encode(x)",
        "The two halves of the encoder's output are exchanged. Before training nobody can tell; weights trained the "
        "other way give noise.",
    ),
    _mutant(
        "one-head-for-both", "VAE.encode",
        "mean, log_var = self._encode(x).chunk(2, dim=1)", "mean = log_var = self._encode(x).chunk(2, dim=1)[0]",
        "Mean and log-variance come from the same layer, by a slip of copy and paste, so they are the same numbers.",
        "https://github.com/giannifranchi/LP_BNN/issues/3",
    ),
    _mutant(
        "halves-interleaved", "VAE.encode",
        "mean, log_var = self._encode(x).chunk(2, dim=1)",
        "mean, log_var = self._encode(x).unflatten(1, (-1, 2)).unbind(2)",
        "Mean and log-variance are read alternately, where they were trained as two halves.",
    ),
    _mutant(
        "log-variance-never-negative", "VAE.encode",
        "return mean, log_var\n\n    def forward(self, x: Tensor, *,",
        "return mean, log_var.relu()\n\n    def forward(self, x: Tensor, *,",
        "A ReLU stands behind the log-variance. The posterior can never be narrower than the prior, so the latents "
        "carry almost nothing.",
        "https://github.com/shekkizh/TensorflowProjects/pull/1",
    ),
    _mutant(
        "half-added-to-the-images", "VAE.encode",
        "self._encode(x).chunk", "self._encode(x * 0.5 + 0.5).chunk",
        "The images are scaled once more on their way in, as if they were in another range than they are. Training "
        "hides it; weights trained without it fail.",
        "https://github.com/mlcommons/training/issues/721",
        bug=9,
    ),
    _mutant(
        "encoder-takes-any-image", "_EncoderDecoder._encode",
        "if x.shape[1:] != self.config.image_shape:", "if x.dim() != 4:",
        "Images of another size are accepted, and fail deep inside the network, or not at all.",
    ),
    _mutant(
        "tanh-decoder", "_EncoderDecoder.decode",
        "return self.decoder(z)", "return self.decoder(z).tanh()",
        "The decoder ends in a tanh while its targets are in [0, 1]. As logits, values between -1 and 1 are "
        "probabilities between 0.27 and 0.73: no black, no white.",
        "https://github.com/AntixK/PyTorch-VAE/issues/48",
        bug=9,
    ),
    _mutant(
        "sigmoid-decoder", "_EncoderDecoder.decode",
        "return self.decoder(z)", "return self.decoder(z).sigmoid()",
        "The decoder ends in a sigmoid, and the loss applies one too.",
        "https://github.com/y0ast/VAE-TensorFlow/issues/7",
    ),
    _mutant(
        "channels-last", "_EncoderDecoder.decode",
        "reshape(-1, *self.config.image_shape)",
        "flatten(1).unflatten(1, (*self.config.image_shape[1:], self.config.image_shape[0])).movedim(-1, 1)",
        "The pixels are read with the channels last, while the network lays them out with the channels first. On grey "
        "images nobody sees it; coloured ones are scrambled.",
    ),
    _mutant(
        "decoder-takes-any-latent", "_EncoderDecoder.decode",
        "if z.dim() != 2 or z.shape[1] != self.config.latent_dim:", "if z.shape[-1] != self.config.latent_dim:",
        "Latents of shape (K, B, D) are accepted, and the samples and images are mixed into one batch.",
    ),
    _mutant(
        "decodes-the-mean", "VAE.forward",
        "VAEOutput(self.decode(z), mean", "VAEOutput(self.decode(mean), mean",
        "The mean is decoded and not the draw. The reconstructions are sharper and the value is no bound any more.",
    ),
    _mutant(
        "no-draw-while-testing", "VAE.forward",
        "z = reparameterise(mean, log_var, generator=generator)",
        "z = reparameterise(mean, log_var, generator=generator) if self.training else mean",
        "In evaluation mode z is the mean. What is then reported as the test ELBO is another number, and not a bound: "
        "this was in PyTorch's example until an author of the paper removed it.",
        "https://github.com/pytorch/examples/pull/419",
    ),
    _mutant(
        "another-z-than-the-one-decoded", "VAE.forward",
        "mean, log_var, z)", "mean, log_var, reparameterise(mean, log_var, generator=generator))",
        "The z that is returned is a second draw. Importance weights made of it belong to another reconstruction.",
    ),
    _mutant(
        "forward-ignores-its-generator", "VAE.forward",
        "reparameterise(mean, log_var, generator=generator)", "reparameterise(mean, log_var)",
        "The random generator stops at the door of the model: a run cannot be repeated.",
    ),
)  # fmt: skip

NETWORKS = (
    _mutant(
        "no-activation-before-the-last-layer", "_dense",
        "*blocks, nn.SiLU(), nn.Linear(config.hidden, n_out)", "*blocks, nn.Linear(config.hidden, n_out)",
        "Two linear layers without an activation between them are one linear layer, whatever their width.",
    ),
    _mutant(
        "dropout-asked-for-and-not-given", "_dense",
        "dropout=config.dropout", "dropout=0.0",
        "The configuration asks for dropout and the network has none.",
    ),
    _mutant(
        "tanh-after-the-last-upsampling", "_conv_networks",
        "        upsample(half, channels),\n", "        upsample(half, channels),\n        nn.Tanh(),\n",
        "The convolutional decoder ends in a tanh, copied from a GAN whose images were in [-1, 1].",
        "https://github.com/AntixK/PyTorch-VAE/issues/108",
        bug=9,
    ),
    _mutant(
        "relu-on-mean-and-log-variance", "_mlp_networks",
        "*_dense(config, n_pixels, numbers * config.latent_dim))",
        "*_dense(config, n_pixels, numbers * config.latent_dim), nn.ReLU())",
        "The last layer of the encoder has an activation like all the others. Means below 0 and variances below 1 are "
        "then impossible, and half of the prior is never used.",
        "https://github.com/shekkizh/TensorflowProjects/pull/1",
    ),
)  # fmt: skip

LINEAR = (
    _mutant(
        "linear-vae-fixed-posterior-variance", "LinearVAE.__init__",
        "torch.zeros(latent_dim)\n", "torch.zeros(latent_dim), requires_grad=False\n",
        "The posterior's variance is made in the wrong way and never learns. The bound then stays away from the "
        "likelihood, however long one trains.",
    ),
    _mutant(
        "linear-vae-fixed-noise", "LinearVAE.__init__",
        "nn.Parameter(torch.zeros(n_features))", "nn.Parameter(torch.zeros(n_features), requires_grad=False)",
        "The decoder's noise is held at 1. This is the squared error with a hidden beta: latents whose signal is "
        "smaller than the noise close.",
        "https://arxiv.org/abs/1911.02469",
        bug=4,
    ),
    _mutant(
        "linear-vae-of-no-latent", "LinearVAE.__init__",
        "if n_features < 1 or latent_dim < 1:", "if n_features < 1:",
        "A latent space of no dimension is accepted.",
    ),
    _mutant(
        "linear-vae-variance-for-log-variance", "LinearVAE.encode",
        "self.log_var.expand_as(mean)", "self.log_var.exp().expand_as(mean)",
        "The variance is returned where the log-variance is promised; the next function takes its exponential again.",
        bug=2,
    ),
    _mutant(
        "decoder-sees-what-it-predicts", "LinearVAE.decode",
        "self.history.tril(-1)", "self.history.tril()",
        "The mask of an autoregressive decoder lets an element see itself. It copies its input, the likelihood grows "
        "without end, and no sample can be drawn.",
        "https://arxiv.org/abs/1601.06759",
    ),
    _mutant(
        "decoder-sees-the-future", "LinearVAE.decode",
        "self.history.tril(-1)", "(self.history - self.history.diag().diag())",
        "Only the element itself is masked, so each sees both its past and its future. The conditionals no longer "
        "multiply to a density.",
        "https://arxiv.org/abs/1601.06759",
    ),
    _mutant(
        "decoder-without-its-past", "LinearVAE.decode",
        "if x is None:", "if x is not None and x.dim() == 0:",
        "An autoregressive decoder is called without the elements it is conditioned on.",
    ),
    _mutant(
        "linear-vae-noise-std-for-log-variance", "LinearVAE.decode",
        "self.log_noise.expand_as(mean)", "(0.5 * self.log_noise).expand_as(mean)",
        "The logarithm of the standard deviation is returned where that of the variance is promised.",
        bug=2,
    ),
)  # fmt: skip

AUTOENCODER = (
    _mutant(
        "autoencoder-with-two-numbers-a-latent", "Autoencoder.__init__",
        "super().__init__(config, numbers=1)", "super().__init__(config, numbers=2)",
        "A VAE's encoder is kept for an autoencoder: the code has means and log-variances in one row.",
    ),
    _mutant(
        "code-squashed", "Autoencoder.encode",
        "return self._encode(x)", "return self._encode(x).sigmoid()",
        "The code goes through a sigmoid, which many examples do unasked: it saturates, and its scale is gone.",
    ),
    _mutant(
        "code-detached", "Autoencoder.forward",
        "AutoencoderOutput(self.decode(z), z)", "AutoencoderOutput(self.decode(z.detach()), z)",
        "The code is detached on its way to the decoder. The encoder keeps its random weights, and the loss still "
        "falls.",
    ),
)  # fmt: skip

MUTANTS = DRAW + MODEL + NETWORKS + LINEAR + AUTOENCODER
