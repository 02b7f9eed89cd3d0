"""The protocols by name, with published figures and where they are stated.

tau is Kendall's rank correlation. GS is "generalisation, small CNN zoo"; an INR is an implicit
neural representation.
"""

from ..errors import did_you_mean
from .protocol import Figure, Protocol
from .rules import epoch_rule, path_rule, small_cnn_rule, transformer_rule, zhou_rule

_NFN = "arXiv 2302.14040"
_SCALEGMN = "arXiv 2406.10685"
_DNG = "the paper of github.com/dddiowww/DNG"
_NFN_FILES = "https://github.com/AllanYangZhou/nfn, experiments/predict_gen_data_splits"
_NFN_CHECKSUMS = {
    "04fb71937dc796fc64f6306457de9d95f0d2d8a343db856213b965a4953a4f67": "CIFAR10-GS",
    "c1dcfc521f38071bb4ac2af4866a38a4d2d468630ef60bb70f9ae75c681fc60c": "SVHN-GS",
    "b516aea9d62a8c8f2acb5b92abfedc4c1f0c2f6f9afd716835ec75103c25cf3b": "MNIST",
    "0d13165d28963acdac000d3d033da58b5719920f7d19aadf310173823053b021": "Fashion-MNIST",
}
_PROBEGEN = "https://github.com/jonkahana/ProbeGen"
_INR_CHECKSUMS = {
    "73fd51cad2449284618460f34d4bba456de9707f481a83a66b66450e360adbd1": "Fashion-MNIST INRs",
}
_COMPUTED = "not published; the import and every report print it for the test rows"
_CLASSES = "none: classes are compared by accuracy, which has no ties"


def _taus(source: str, quoted: bool, **rows: tuple[float | None, float | None]) -> list[Figure]:
    """Figures on CIFAR10-GS and SVHN-GS by method."""
    return [
        Figure(
            method=method.replace("_", "-"),
            data=data,
            value=value,
            metric="tau",
            source=source,
            quoted=quoted,
        )
        for method, values in rows.items()
        for data, value in zip(("CIFAR10-GS", "SVHN-GS"), values, strict=True)
        if value is not None
    ]


def _accuracies(source: str, **rows: tuple[float | None, ...]) -> tuple[Figure, ...]:
    """Figures on INRs of MNIST, Fashion-MNIST and CIFAR10 by method, quoted in one table."""
    return tuple(
        Figure(
            method=method.replace("_", "-"),
            data=data,
            value=value,
            metric="accuracy",
            source=source,
        )
        for method, values in rows.items()
        for data, value in zip(("MNIST", "Fashion-MNIST", "CIFAR10"), values, strict=False)
        if value is not None
    )


_GS_FIGURES = (
    *_taus(_NFN, False, StatNN=(0.915, 0.843), NFN_NP=(0.922, 0.856), NFN_HNP=(0.934, 0.931)),
    *_taus("arXiv 2403.12143", True, NG_GNN=(0.930, 0.863), NG_T=(0.935, 0.872)),
    *_taus(_DNG, True, DNG=(0.936, 0.867)),
    *_taus(f"{_SCALEGMN}, run anew by others", True, ScaleGMN=(0.932, 0.866)),
)


def _small_cnn(name: str, activation: str | None) -> Protocol:
    kept = f"; only {activation} networks are kept, after the split" if activation else ""
    return Protocol(
        name=name,
        zoo="the small CNN zoo (Unterthiner et al. 2020, arXiv 2002.11448)",
        formats=("smallcnn",),
        rule="rows of epoch 86 in the order of the published shuffle: the second half is test; the "
        f"first half, shuffled by Python's generator with seed 0, is 80 % train, 20 % val{kept}. "
        "The header of the file counts as row 0, as in the published code",
        needs=("published_row", "epoch", *(("activation",) if activation else ())),
        split_of_rows=small_cnn_rule(activation),
        split_file="required",
        file_source=_NFN_FILES,
        known_files=_NFN_CHECKSUMS,
        tie_ceiling=_COMPUTED
        if activation == "tanh"
        else "0.988 on CIFAR10-GS and 0.903 on SVHN-GS, for ReLU networks; NFN-HNP's 0.931 on "
        "SVHN-GS lies above it",
        comparable="yes with the published file, for figures on the same activations: papers "
        "differ in whether they keep ReLU networks only, and not every table says so",
        published=() if activation == "tanh" else _GS_FIGURES,
    )


def _transformers(cut_off: int) -> Protocol:
    figures = [
        Figure(
            method="Transformer-NFN",
            data=data,
            value=value,
            metric="tau",
            source="arXiv 2410.04209",
        )
        for data, value in (("MNIST", 0.905), ("AG-News", 0.910))
    ]
    least = f", with a test accuracy of at least {cut_off} %" if cut_off else ""
    return Protocol(
        name=f"small-transformers-{cut_off}" if cut_off else "small-transformers",
        zoo="the Small Transformer Zoo (Tran et al. 2025, arXiv 2410.04209)",
        formats=("small-transformers",),
        rule=f"rows of epoch 75{least}, sorted by model name and shuffled by Python's generator "
        "with seed 0: 70 % train, 15 % val (rounded down), the rest test; each task by itself",
        needs=("epoch", "test_accuracy"),
        split_of_rows=transformer_rule(cut_off / 100),
        split_file="none",
        known_files={},
        tie_ceiling=_COMPUTED,
        comparable="only as another draw: rows and sizes are the published ones, but the published "
        "shuffle was not stored and cannot be repeated",
        published=() if cut_off else tuple(figures),
    )


def _zhou(name: str, augmented: bool) -> Protocol:
    views = "with all augmented copies of train images" if augmented else "without augmented copies"
    return Protocol(
        name=name,
        zoo="the INRs of Zhou et al. 2023 (arXiv 2302.14040)",
        formats=("inr-pth",),
        rule=f"images 0 to 44,999 are train, to 49,999 val, the rest test; {views}",
        needs=("image_id", "augmentation"),
        split_of_rows=zhou_rule(augmented),
        split_file="none",
        known_files={},
        tie_ceiling=_CLASSES,
        comparable="the images of each split are the published ones; the published code takes one "
        "of the copies of an image by the order of folders, here the original is taken",
        published=_accuracies(
            f"{_DNG}, table 1",
            INR2JLS=(0.986, 0.906, 0.732),
            INR2ARRAY=(0.985, 0.793, 0.634),
            NG_T=(0.968, 0.852, 0.577),
            NFN=(0.929, 0.756, 0.466),
        )
        if augmented
        else _accuracies(
            f"{_DNG}, encoders only", DNG=(0.966, 0.784, 0.540), NG_T=(0.834, 0.721, 0.447)
        ),
    )


_ALL = (
    _small_cnn("nfn", None),
    _small_cnn("nfn-relu", "relu"),
    _small_cnn("nfn-tanh", "tanh"),
    Protocol(
        name="wild-park",
        zoo="the CNN Wild Park (Kofinas et al. 2024, arXiv 2403.12143)",
        formats=("wildpark",),
        rule="every checkpoint in the split in which the published JSON file lists its path; "
        "checkpoints that it does not list are left out",
        needs=("published_file",),
        split_of_rows=path_rule,
        split_file="required",
        file_source=f"{_PROBEGEN}, experiments/cnn_generalization/dataset/cnn_park_splits.json",
        known_files={},
        tie_ceiling=_COMPUTED,
        comparable="yes with the published file",
        published=tuple(
            Figure(method=method, data="CNN Wild Park", value=value, metric="tau", source=source)
            for method, value, source in (
                ("NG-GNN", 0.804, "arXiv 2403.12143"),
                ("NG-T", 0.817, "arXiv 2403.12143"),
                ("DNG", 0.874, _DNG),
                ("ProbeGen", 0.933, "the paper of github.com/jonkahana/ProbeGen"),
                ("HiddenProbe", 0.940, "the paper of HiddenProbe, mean of 5"),
            )
        ),
    ),
    Protocol(
        name="navon-inrs",
        zoo="the INRs of Navon et al. 2023 (arXiv 2301.12780)",
        formats=("inr-pth",),
        rule="every network in the split in which the published JSON file lists its path: 55,000 "
        "train, 5,000 val and 10,000 test (the test images)",
        needs=(),
        split_of_rows=path_rule,
        split_file="required",
        file_source=f"{_PROBEGEN}, experiments/inr_classification/dataset",
        known_files=_INR_CHECKSUMS,
        tie_ceiling=_CLASSES,
        comparable="yes with the published file",
        published=_accuracies(
            f"{_SCALEGMN}, table 1",
            ScaleGMN_B=(0.9659, 0.8078),
            NG_GNN=(0.9140, 0.6800),
            DWSNet=(0.8571, 0.6706),
            NFN_NP=(0.7850, 0.6819),
        ),
    ),
    _zhou("zhou-inrs", augmented=False),
    _zhou("zhou-inrs-augmented", augmented=True),
    Protocol(
        name="modelzoos-late",
        zoo="the Model Zoos (Schürholt et al. 2022, arXiv 2209.14764)",
        formats=("modelzoos-raw", "modelzoos-pt"),
        rule="rows of epochs 21 to 25 in the stored splits, as hyper-representations (arXiv "
        "2209.14733) and SANE (arXiv 2406.09997) use them",
        needs=("epoch", "split"),
        split_of_rows=epoch_rule(21, 25),
        split_file="none",
        known_files={},
        tie_ceiling=_COMPUTED,
        comparable="only as another draw: the published splits of 70, 15 and 15 % of the models "
        "depend on the order of files on their authors' disk, and only the preprocessed files "
        "keep them",
    ),
    *(_transformers(cut_off) for cut_off in (0, 20, 40, 60, 80)),
)
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}


def find_protocol(name: str) -> Protocol:
    """Find a protocol by its name.

    Raises:
        ValueError: if there is none of that name; the message lists the names.
    """
    if name not in PROTOCOLS:
        raise ValueError(
            f"no protocol {name!r}, there are {list(PROTOCOLS)}" + did_you_mean(name, PROTOCOLS)
        )
    return PROTOCOLS[name]
