"""Files of format invnet-1, which invnet 0.1 wrote: what it left out, and what it accepted without effect."""

#: What a constructor of 0.1 took where nothing was given, by the path that its class had then.
DEFAULTS = {
    "invnet.bases.mixture.GaussianMixture": {"std": 1.0, "weights": None, "learn": True, "dtype": "float32"},
    "invnet.bases.normal.DiagonalNormal": {"std": 1.0, "learn": True, "dtype": "float32"},
    "invnet.bases.normal.FullNormal": {"covariance": None, "learn": True, "dtype": "float32"},
    "invnet.bases.normal.Normal": {},
    "invnet.bases.uniform.Uniform": {"low": 0.0, "high": 1.0},
    "invnet.flow.Flow": {"base": None},
    "invnet.layers.actnorm.ActNorm": {"floor": 1e-4, "dtype": "float32"},
    "invnet.layers.autoregressive.AutoregressiveAffine": {"fast": "forward", "scale": "bounded", "bound": 4.0},
    "invnet.layers.autoregressive_spline.AutoregressiveSpline": {
        "bins": 8,
        "bound": 3.0,
        "tails": "linear",
        "fast": "forward",
    },
    "invnet.layers.compose.Chain": {},
    "invnet.layers.compose.FactorOut": {"prior": None},
    "invnet.layers.compose.Reverse": {},
    "invnet.layers.conv1x1.Conv1x1": {"parametrisation": "lu", "reflections": None, "seed": 0, "dtype": "float32"},
    "invnet.layers.coupling.AdditiveCoupling": {},
    "invnet.layers.coupling.AffineCoupling": {"scale": "bounded", "bound": 4.0},
    "invnet.layers.exact.Exact": {"limit": 256.0},
    "invnet.layers.leaky_relu.LeakyReLU": {"slope": 0.01},
    "invnet.layers.logit.Logit": {"alpha": 0.05},
    "invnet.layers.logit.Sigmoid": {"alpha": 0.0},
    "invnet.layers.permute.Permute": {},
    "invnet.layers.planar.Planar": {"seed": 0, "dtype": "float32"},
    "invnet.layers.planar.Radial": {"seed": 0, "dtype": "float32"},
    "invnet.layers.spline_coupling.SplineCoupling": {"bins": 8, "bound": 3.0, "tails": "linear"},
    "invnet.layers.split_tokens.SplitTokens": {"pattern": "checkerboard", "inverted": False},
    "invnet.layers.squeeze.Squeeze": {},
    "invnet.layers.squeeze.Unsqueeze": {},
    "invnet.layers.staircase.Staircase": {},
    "invnet.models.autoregressive.IAF": {
        "depth": 2,
        "order": "reversal",
        "scale": "bounded",
        "bound": 4.0,
        "activation": "relu",
        "cond_channels": 0,
        "seed": 0,
        "dtype": "float32",
    },
    "invnet.models.autoregressive.MAF": {
        "depth": 2,
        "order": "reversal",
        "scale": "bounded",
        "bound": 4.0,
        "activation": "relu",
        "cond_channels": 0,
        "seed": 0,
        "dtype": "float32",
    },
    "invnet.models.glow.Glow": {
        "ndim": 2,
        "coupling": "affine",
        "scale": "bounded",
        "bound": 4.0,
        "mix": "lu",
        "prior": True,
        "kernels": [3, 1, 3],
        "activation": "relu",
        "cond_channels": 0,
        "cond_spatial": False,
        "seed": 0,
        "dtype": "float32",
    },
    "invnet.models.jet.Jet": {
        "patch": 4,
        "couplings": 32,
        "depth": 2,
        "width": 512,
        "heads": 8,
        "seed": 0,
        "dtype": "float32",
    },
    "invnet.models.nsf.NSF": {
        "bins": 8,
        "bound": 3.0,
        "depth": 2,
        "activation": "relu",
        "mix": "swap",
        "actnorm": False,
        "cond_channels": 0,
        "seed": 0,
        "dtype": "float32",
        "autoregressive": None,
    },
    "invnet.models.planar.PlanarFlow": {"seed": 0, "dtype": "float32"},
    "invnet.models.planar.RadialFlow": {"seed": 0, "dtype": "float32"},
    "invnet.models.realnvp.RealNVP": {
        "depth": 2,
        "scale": "bounded",
        "bound": 4.0,
        "activation": "relu",
        "mix": "swap",
        "actnorm": False,
        "cond_channels": 0,
        "seed": 0,
        "dtype": "float32",
    },
    "invnet.nets.bent.PlanarNet": {"seed": 0, "dtype": "float32"},
    "invnet.nets.bent.RadialNet": {"seed": 0, "dtype": "float32"},
    "invnet.nets.conv.ConvNet": {
        "kernels": [3, 1, 3],
        "ndim": 2,
        "activation": "relu",
        "cond_channels": 0,
        "seed": 0,
        "dtype": "float32",
    },
    "invnet.nets.dense.DenseNet": {"depth": 2, "activation": "relu", "cond_channels": 0, "seed": 0, "dtype": "float32"},
    "invnet.nets.masked.MaskedDenseNet": {
        "outputs": 2,
        "depth": 2,
        "order": None,
        "activation": "relu",
        "cond_channels": 0,
        "seed": 0,
        "dtype": "float32",
    },
}
RENAMED = {"invnet.layers.staircase.Staircase": "PartitionedAdditiveCoupling"}
FLAGS = ("actnorm", "cond_spatial", "inverted", "learn", "prior")


def upgraded(description):
    """An architecture of an invnet-1 file as an invnet-2 file would have it."""
    if isinstance(description, list):
        return [upgraded(item) for item in description]
    if (
        not isinstance(description, dict)
        or "class" not in description
        or not isinstance(description.get("arguments"), dict)
    ):
        return description
    path, arguments = description["class"], {name: upgraded(value) for name, value in description["arguments"].items()}
    if path not in DEFAULTS:
        return {"class": path, "arguments": arguments}
    name = RENAMED.get(path, path.rpartition(".")[2])
    return {"class": f"invnet.{name}", "arguments": _without_effectless(name, {**DEFAULTS[path], **arguments})}


def _without_effectless(name, arguments):
    """The arguments with None for each that had no effect, which is refused now; and a number that stood for a flag as
    a flag.
    """
    a = {name: bool(value) if name in FLAGS and isinstance(value, int) else value for name, value in arguments.items()}
    if name == "Glow":
        if a["prior"] and a.get("levels") == 1:
            a["prior"] = None
        if not a["cond_channels"] or a["ndim"] == 0:
            a["cond_spatial"] = False
        if a["coupling"] == "additive" and not a["prior"]:
            a["scale"] = None
    if "scale" in a and a["scale"] != "bounded":
        a["bound"] = None
    if "depth" in a and isinstance(a.get("hidden"), list):
        a["depth"] = None
    if name == "Conv1x1" and a["parametrisation"] != "householder":
        a["reflections"] = None
    return a
