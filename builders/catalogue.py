"""Catalogue of published model zoos: where each lies, and how it comes into weightzoo.

The table holds what the publishers state. "none stated" means that no licence was found beside the
data; sizes that no publisher states are "not stated".
"""

from dataclasses import dataclass

from ..zoos.errors import ZooNotFoundError, did_you_mean

NO_LICENCE = "none stated"
UNKNOWN_SIZE = "not stated"
HOSTS = ("zenodo", "http", "hub-dataset", "hub-model", "by hand")


@dataclass(frozen=True, kw_only=True)
class PublishedZoo:
    """One published zoo.

    Attributes:
        name: name for `weightzoo fetch`.
        contents: what it holds.
        paper: citation, with the arXiv number where there is one.
        host: one of `HOSTS`.
        address: record number on Zenodo, URLs, repository on the Hub, or a page for a download by
            hand.
        size: size as its publishers state it.
        format: format for `weightzoo import`, "" if it is not read.
        licence: licence of the data.
        files: names of the files to fetch; () takes all.
        source: file to import among those fetched; "" takes the only one, or the folder.
        defects: what is known to be wrong with it.
    """

    name: str
    contents: str
    paper: str
    host: str
    address: tuple[str, ...]
    size: str = UNKNOWN_SIZE
    format: str = ""
    licence: str = NO_LICENCE
    files: tuple[str, ...] = ()
    source: str = ""
    defects: str = ""

    @property
    def page(self) -> str:
        """Address of a page that describes the download."""
        first = self.address[0]
        if self.host == "zenodo":
            return f"https://zenodo.org/records/{first}"
        if self.host.startswith("hub-"):
            kind = "datasets/" if self.host == "hub-dataset" else ""
            return f"https://huggingface.co/{kind}{first}"
        return first

    @property
    def can_fetch(self) -> bool:
        """Whether `weightzoo fetch` downloads it."""
        return self.host != "by hand"

    @property
    def commands(self) -> tuple[str, ...]:
        """Commands that fetch and import it."""
        fetch = (f"weightzoo fetch {self.name} --out {self.name}",) if self.can_fetch else ()
        if not self.format:
            return fetch
        single = self.files[0] if len(self.files) == 1 else "FILE"
        named = self.address[0].rpartition("/")[2] if self.host == "http" else single
        inside = self.source or (named if self.host in ("zenodo", "http") else "")
        source = f"{self.name}/{inside}" if inside else self.name
        layer = " --layer NAME" if self.format == "model-j" else ""
        return (*fetch, f"weightzoo import {self.format} {source} --out {self.name}-zoo{layer}")


_MODEL_ZOOS = "Schürholt et al. 2022, arXiv 2209.14764"
_SPLIT_DEFECT = (
    "its split depends on the order of files on its authors' disk; models that their filter "
    "dropped are not listed"
)
_RAW_DEFECT = (
    "configs name sizes that the builder ignored (model::o_dim, model::use_bias); with dropout the "
    "tensor names shift; weightzoo reads the tensors instead"
)


def _model_zoo(
    name: str,
    record: str,
    contents: str,
    format: str = "modelzoos-raw",
    defects: str = _RAW_DEFECT,
) -> PublishedZoo:
    return PublishedZoo(
        name=f"modelzoos-{name}",
        contents=contents,
        paper=_MODEL_ZOOS,
        host="zenodo",
        address=(record,),
        licence="cc-by-4.0",
        format=format,
        defects=defects,
    )


def _small_cnn(name: str, data: str, rows: str) -> PublishedZoo:
    url = f"https://storage.googleapis.com/gresearch/smallcnnzoo-dataset/{data}.tar.xz"
    return PublishedZoo(
        name=f"smallcnn-{name}",
        contents=f"small CNN zoo on {name}: {rows} checkpoints of 30,000 networks, 4,970 values",
        paper="Unterthiner et al. 2020, arXiv 2002.11448",
        host="http",
        address=(url,),
        format="smallcnn",
        licence="cc-by-4.0",
        defects="all runs have seed 42; the kernel of a layer lies behind its bias; a few networks "
        "of each set diverged",
    )


CATALOGUE: tuple[PublishedZoo, ...] = (
    _model_zoo("mnist", "6632086", "CNN-s on MNIST: Seed, Hyp-10-rand and Hyp-10-fix"),
    _model_zoo("fashion-mnist", "6632104", "CNN-s on Fashion-MNIST, three zoos"),
    _model_zoo(
        "svhn",
        "6632120",
        "CNN-s on SVHN, three zoos",
        defects="params.json says 4 outputs and no biases; the networks have 10 and biases",
    ),
    _model_zoo("usps", "6633626", "CNN-s on USPS, three zoos"),
    _model_zoo("cifar10", "6620868", "CNN-s and CNN-l on CIFAR10, three zoos each"),
    _model_zoo("stl10", "6631783", "CNN-s and CNN-l on STL10, three zoos each"),
    _model_zoo(
        "stl10-preprocessed",
        "6634138",
        "the STL10 zoos as pickled dataset objects",
        format="modelzoos-pt",
        defects=_SPLIT_DEFECT,
    ),
    _model_zoo("eurosat", "8141666", "CNN-s on EuroSAT"),
    _model_zoo(
        "mnist-sparse",
        "7023335",
        "sparse twins of the MNIST zoo by variational dropout, 25 epochs each",
        defects="files hold variances beside unpruned float64 weights: weightzoo prunes by the "
        "published threshold; params.json repeats the seed of the first parent",
    ),
    _model_zoo(
        "svhn-sparse",
        "7027566",
        "sparse twins of the SVHN zoo by variational dropout",
        defects="files hold variances beside unpruned float64 weights: weightzoo prunes by the "
        "published threshold",
    ),
    PublishedZoo(
        name="modelzoos-resnet18",
        contents="ResNet-18 on CIFAR10 and CIFAR100, 1,000 seeds each",
        paper=_MODEL_ZOOS,
        host="by hand",
        address=("https://github.com/ModelZoos/ModelZooDataset",),
        size="about 5 TB each",
        format="modelzoos-raw",
        licence="cc-by-4.0",
        defects="only the full tar files are linked since 2025; TinyImageNet has no link",
    ),
    PublishedZoo(
        name="sane-cifar10-sample",
        contents="sample of CNN-l on CIFAR10, epochs 21 to 25",
        paper="Schürholt et al. 2024, arXiv 2406.09997",
        host="zenodo",
        address=("13144018",),
        format="modelzoos-raw",
    ),
    PublishedZoo(
        name="vit-zoo",
        contents="250 ViT-S/16: pre-training and fine-tuning on CIFAR100",
        paper="Falk et al. 2025, arXiv 2504.10231",
        host="by hand",
        address=("https://github.com/ModelZoos/ViTModelZoo",),
        format="modelzoos-raw",
        defects="children of different parents have the same names",
    ),
    PublishedZoo(
        name="phase-transitions",
        contents="12 zoos over load and temperature; samples only",
        paper="Schürholt et al. 2025, arXiv 2504.18072",
        host="by hand",
        address=("https://github.com/ModelZoos/PhaseTransitionModelZoo",),
        format="modelzoos-raw",
        licence="cc-by-4.0",
        defects="two of the twelve zoos have a public sample, the others none",
    ),
    PublishedZoo(
        name="weightclip-cnn3",
        contents="CNN-l on 20 image sets, 100 seeds each, epochs from 30",
        paper="WeightCLIP 2026, arXiv 2607.03551",
        host="hub-model",
        address=("aasefaw/WeightCLIP",),
        files=("model_zoos/cnn3/*.tar.gz",),
        source="model_zoos/cnn3/FILE",
        size="about 2.5 GB",
        format="modelzoos-raw",
        licence="none stated (code: MIT)",
        defects="one archive per image set, imported one by one",
    ),
    _small_cnn("mnist", "mnist", "269,973"),
    _small_cnn("fashion-mnist", "fashion_mnist", "270,000"),
    _small_cnn("cifar10", "cifar10", "270,000"),
    _small_cnn("svhn", "svhn_cropped", "269,892"),
    PublishedZoo(
        name="cnn-wild-park",
        contents="CNNs on CIFAR10, nearly each of its own architecture",
        paper="Kofinas et al. 2024, arXiv 2403.12143",
        host="zenodo",
        address=("12797219",),
        files=("cnn_wild_park.zip",),
        format="wildpark",
        defects="checkpoints are pickles with omegaconf objects; iteration 0 is after one epoch",
    ),
    PublishedZoo(
        name="navon-inrs",
        contents="SIRENs of the images of MNIST and Fashion-MNIST",
        paper="Navon et al. 2023, arXiv 2301.12780",
        host="by hand",
        address=("https://github.com/AvivNavon/DWSNets",),
        format="inr-pth",
        defects="splits were drawn without a seed: pass the published mnist_splits.json as "
        "--split-file; the sine INRs are not published",
    ),
    PublishedZoo(
        name="zhou-inrs",
        contents="SIRENs of the images of MNIST, Fashion-MNIST and CIFAR10, with augmented copies",
        paper="Zhou et al. 2023, arXiv 2302.14040",
        host="by hand",
        address=("https://github.com/AllanYangZhou/nfn",),
        format="inr-pth",
        defects="copies of one image have the same number, so a split by file leaks",
    ),
    PublishedZoo(
        name="small-transformer-zoo",
        contents="62,756 MNIST and 63,796 AG-News checkpoints of small transformers",
        paper="Tran et al. 2025, arXiv 2410.04209",
        host="hub-dataset",
        address=("anonymized-acamedia/Small-Transformer-Zoo",),
        format="small-transformers",
        source="MNIST-Transformers.zip",
        licence="none stated (code: MIT)",
        defects="two zip files, imported one by one; the published split was drawn without a seed",
    ),
    PublishedZoo(
        name="nino-metatrain",
        contents="training trajectories of 600 CNNs and 400 small GPTs, float16 memory maps",
        paper="Knyazev et al. 2025, arXiv 2409.04434",
        host="hub-dataset",
        address=("SamsungSAILMontreal/nino_metatrain@mmap",),
        size="about 200 GB",
        format="nino",
        licence="mit",
        defects="weights are float16; the memory maps carry no shape",
    ),
    PublishedZoo(
        name="model-j",
        contents="index of about 1,000 models per subset and 14,000 LoRAs on the Hub",
        paper="Kahana et al. 2025 (ProbeX)",
        host="hub-dataset",
        address=("ProbeX/Model-J",),
        size="350 GB and 70 GB of LoRAs",
        format="model-j",
        defects="every discriminative model is a repository of its own: one layer is fetched of "
        "each; folders of its LoRAs are read by lora",
    ),
    PublishedZoo(
        name="padbench",
        contents="13,300 LoRA and PEFT adapters, a part with a backdoor",
        paper="PEFTGuard",
        host="hub-dataset",
        address=("Vincent-HKUSTGZ/PADBench",),
        format="lora",
        defects="the label is in the file name only (_0 or _1)",
    ),
    PublishedZoo(
        name="lora-wise",
        contents="2,050 rows of LoRA weights in parquet",
        paper="LoRA-WiSE",
        host="hub-dataset",
        address=("MoSalama98/LoRA-WiSE",),
    ),
    PublishedZoo(
        name="mother-vthr",
        contents="model trees of ViTs, 105 models per split (full fine-tuning, LoRA)",
        paper="MoTHer",
        host="by hand",
        address=("https://huggingface.co/MoTHer-VTHR",),
        size="about 30 GB",
        format="mother",
        defects="the tree lies in a pickle beside the code",
    ),
)


def published_zoo(name: str) -> PublishedZoo:
    """Find a published zoo by its name.

    Raises:
        ZooNotFoundError: if there is none of that name.
    """
    known = {zoo.name: zoo for zoo in CATALOGUE}
    if name not in known:
        raise ZooNotFoundError(
            f"no published zoo {name!r}: `weightzoo catalogue` lists {len(known)} names"
            + did_you_mean(name, known)
        )
    return known[name]
