"""Registry of the compared networks' official weight files: addresses, licences, checksums.

None of these files comes with this project: most of their repositories state no licence, so
everyone fetches their own copy. A file is known by its SHA-256, or by the id that git gives its
content (``git hash-object FILE``), or, where neither could be found, by the tensors in it alone.
"""

from __future__ import annotations

from typing import NamedTuple

from ... import download

NONE_STATED = "none stated"


class File(NamedTuple):
    """A weight file of others, with its checksums as far as they are known."""

    name: str
    size: int | None = None  # bytes
    sha256: str = ""
    blob: str = ""  # the id that git gives its content
    at: tuple[str, str, str] | None = None  # owner/name, commit and path on GitHub
    words: str = ""  # where to get it, for people, where ``at`` does not say it

    @property
    def url(self) -> str | None:
        """Address of the file itself, None where it has none."""
        return download.address(*self.at) if self.at else None

    @property
    def origin(self) -> str:
        """Where to get it, in words."""
        if self.words or self.at is None:
            return self.words or "its authors"
        return f"{self.at[0]} on GitHub ({self.at[2]})"


class Official(NamedTuple):
    """An official checkpoint: its files and how they are read."""

    method: str
    licence: str
    format: str  # torch, bundle (TensorFlow index and data) or archive (a zip of bundles)
    # module:function of fusionlib.networks.compared, called with the tensors of each file
    converter: str
    files: tuple[File, ...]
    # the bundle's name in an archive; the key of the state dict in a torch file that wraps it
    member: str = ""
    copies: tuple[tuple[File, ...], ...] = ()  # the same tensors in other files
    npz: str = ""  # name of a numpy archive of the same TensorFlow variables, accepted instead
    fingerprint: str = ""  # of the converted tensors, see checkpoint.fingerprint


def _densefuse_tensorflow(weight: str, fingerprint: str) -> Official:
    archive = File(
        "densefuse_gray.zip",
        3271218,
        "c848f19d4117e553cae0d9354d1e38712919a70822be1042ed08058fb8435c2a",
        at=("hli1221/imagefusion_densefuse", "ef23f0f", "models/densefuse_gray.zip"),
    )
    return Official(
        "DenseFuse",
        NONE_STATED,
        "archive",
        "densefuse:from_tensorflow",
        (archive,),
        member=f"densefuse_gray/densefuse_model_bs2_epoch4_all_weight_{weight}.ckpt",
        npz=f"densefuse_tf_{weight}.npz",
        fingerprint=fingerprint,
    )


def _torch(
    method: str,
    converter: str,
    repository: str,
    commit: str,
    folder: str,
    *files: tuple[str, int, str],
    licence: str = NONE_STATED,
    member: str = "",
    copies: tuple[tuple[File, ...], ...] = (),
) -> Official:
    return Official(
        method,
        licence,
        "torch",
        converter,
        tuple(File(n, size, sha, at=(repository, commit, folder + n)) for n, size, sha in files),
        member=member,
        copies=copies,
    )


def _bundle(
    method: str,
    repository: str,
    commit: str,
    stem: str,
    *files: tuple[int, str],
    licence: str = NONE_STATED,
) -> Official:
    """Return a TensorFlow checkpoint: sizes and SHA-256 of its index and its data."""
    paths = (f"{stem}.index", f"{stem}.data-00000-of-00001")
    return Official(
        method,
        licence,
        "bundle",
        f"{method.lower()}:from_tensorflow",
        tuple(
            File(path.rpartition("/")[2], *known, at=(repository, commit, path))
            for path, known in zip(paths, files, strict=True)
        ),
    )


def _by_blob(method: str, repository: str, commit: str, path: str, blob: str) -> Official:
    """Return a PyTorch file of which the id in git is known and nothing else."""
    file = File(path.rpartition("/")[2], blob=blob, at=(repository, commit, path))
    return Official(method, NONE_STATED, "torch", f"{method.lower()}:from_torch", (file,))


def _rfn_nest() -> Official:
    # The authors publish zip files; a benchmark of others keeps the same two files unpacked (equal
    # git ids), under shorter names.
    files = tuple(
        File(
            name,
            blob=blob,
            at=("Linfeng-Tang/VIF-Benchmark", "HEAD", f"Checkpoint/RFN-Nest/{short}"),
            words=f"hli1221/imagefusion-rfn-nest on GitHub (inside models/{archive})",
        )
        for name, blob, short, archive in [
            (
                "nestfuse_gray_1e2.model",
                "ed97064f42408b832ba04c09c2b0f0b883de666e",
                "NestFuse.model",
                "nestfuse.zip",
            ),
            (
                "Final_epoch_2_alpha_700_wir_6.0_wvi_3.0_ssim_vi.model",
                "5d6f488bb906abe8e623b1e2af5bc9e380e6a580",
                "RFN_Nest.model",
                "rfn_twostage.zip",
            ),
        ]
    )
    return Official("RFN-Nest", NONE_STATED, "torch", "rfn_nest:from_torch", files)


def _piafusion_bundle(
    folder: str,
    stem: str,
    converter: str,
    data: File,
    index: File,
    *,
    npz: str,
    fingerprint: str = "",
) -> Official:
    repository = ("Linfeng-Tang/PIAFusion", "HEAD")
    files = (
        index._replace(at=(*repository, f"checkpoint/{folder}/{stem}.index")),
        data._replace(at=(*repository, f"checkpoint/{folder}/{stem}.data-00000-of-00001")),
    )
    return Official(
        "PIAFusion",
        "MIT",
        "bundle",
        f"piafusion:{converter}",
        files,
        npz=npz,
        fingerprint=fingerprint,
    )


_TARDAL = ("TarDAL", "tardal:from_torch", "JinyuanLiu-CV/TarDAL", "1d1d1e9", "weights/")
_TARDAL_LICENCE = "none stated at that commit; GPL-3.0 since June 2022"

# The first checkpoint of a method is its default.
CHECKPOINTS: dict[str, Official] = {
    "densefuse-tensorflow-1e2": _densefuse_tensorflow(
        "1e2", "a20f67fe0a6ec4048063322dd19c062978ad4d7196bb929b5bd51e4bb86b1f43"
    ),
    "densefuse-tensorflow-1e0": _densefuse_tensorflow(
        "1e0", "955cbc85010620a6e82d8a4a2f1beb88485ccfd39453b185d5a3aaac0a34f6bc"
    ),
    "densefuse-tensorflow-1e1": _densefuse_tensorflow(
        "1e1", "6170e725bcf58bd48453854f87e22077d48aadb57fc6573a08bab774ae08fa49"
    ),
    "densefuse-tensorflow-1e3": _densefuse_tensorflow(
        "1e3", "b6b343e517c65f9b80794d609629379d9650dae2c71e59bcff2ece96ffab5340"
    ),
    "densefuse-torch-gray": _torch(
        "DenseFuse",
        "densefuse:from_torch",
        "hli1221/densefuse-pytorch",
        "4394b63",
        "models/",
        (
            "densefuse_gray.model",
            300413,
            "b34cf3650f04161b31ac2467decfeedf7eba39165b7618f846e0f298ecd2ac65",
        ),
    ),
    "densefuse-torch-rgb": _torch(
        "DenseFuse",
        "densefuse:from_torch",
        "hli1221/densefuse-pytorch",
        "4394b63",
        "models/",
        (
            "densefuse_rgb.model",
            302727,
            "d1829f47c0ff02ecfc294907655384eebc911a00deb89b91e354ae47c8728ea5",
        ),
    ),
    "rfn-nest": _rfn_nest(),
    "ifcnn-max": _torch(
        "IFCNN",
        "ifcnn:from_torch",
        "uzeful/IFCNN",
        "8fe59c2",
        "Code/snapshots/",
        (
            "IFCNN-MAX.pth",
            337094,
            "6022b44c88a2f0367ba9b08fcdf0d663745d9a966fca0ee1f41867797b6ff53f",
        ),
    ),
    "ifcnn-sum": _torch(
        "IFCNN",
        "ifcnn:from_torch",
        "uzeful/IFCNN",
        "8fe59c2",
        "Code/snapshots/",
        (
            "IFCNN-SUM.pth",
            337107,
            "a8c1d293f1bf16a93e6244a4bf8f7a7bd300dc10555c8597ad7ef3320b0410cb",
        ),
    ),
    "ifcnn-mean": _torch(
        "IFCNN",
        "ifcnn:from_torch",
        "uzeful/IFCNN",
        "8fe59c2",
        "Code/snapshots/",
        (
            "IFCNN-MEAN.pth",
            337079,
            "fd2ee9361f1d428fc9749e28e8a2c5c5ef6ce6528ab6f5ad8ef5def42e7ffa4b",
        ),
    ),
    "piafusion-tensorflow": _piafusion_bundle(
        "PIAFusion",
        "IAFusion.model-29",
        "from_tensorflow",
        File(
            "IAFusion.model-29.data-00000-of-00001",
            5066380,
            blob="a730a7c46d8c315e8bcefeb827d5520499e66751",
        ),
        File("IAFusion.model-29.index"),
        npz="piafusion_tf.npz",
    ),
    "piafusion-torch": Official(
        "PIAFusion",
        NONE_STATED,
        "torch",
        "piafusion:from_torch",
        (
            File(
                "fusion_model_epoch_29.pth",
                blob="689e94f57e8fe3b4f29ed1f90becec4b91eb5f84",
                at=("linklist2/PIAFusion_pytorch", "HEAD", "pretrained/fusion_model_epoch_29.pth"),
            ),
        ),
    ),
    "piafusion-illumination-tensorflow": _piafusion_bundle(
        "Illumination",
        "Illumination.model-99",
        "classifier_from_tensorflow",
        File(
            "Illumination.model-99.data-00000-of-00001",
            759240,
            "21faa57244a79b95c495569c1077938fb1ebdab2481ef5a31c76b25f8133ff30",
        ),
        File(
            "Illumination.model-99.index",
            538,
            "fdae99ede5536e774e9e4e920d079cb222dd3ef4ff7d863e8004bd9b1fad15a0",
        ),
        npz="illumination_tf_derived.npz",
        fingerprint="79aa04246594b8f550614571b14826ee25a3360532619e68bac44da10a825872",
    ),
    "piafusion-illumination-torch": _torch(
        "PIAFusion",
        "piafusion:classifier_from_torch",
        "linklist2/PIAFusion_pytorch",
        "dc1abc3",
        "pretrained/",
        (
            "best_cls.pth",
            763073,
            "a9441744fc6a535d3a27495f4934efb6e52956bc42a348186f4db87b0d97dc1d",
        ),
    ),
    "didfuse": _torch(
        "DIDFuse",
        "didfuse:from_torch",
        "Zhaozixiang1228/IVIF-DIDFuse",
        "5f28730",
        "Models/",
        (
            "Encoder_weight_IJCAI.pkl",
            454838,
            "4d84a4e64e58469d3d4591f83c6683ead3e422498519db99bb617cb29d268471",
        ),
        (
            "Decoder_weight_IJCAI.pkl",
            600772,
            "c6974e2a7c66ab579a77bacb086023237a229e769d459783bad8ff43e52e9986",
        ),
        member="weight",
    ),
    "auif": _torch(
        "AUIF",
        "auif:from_torch",
        "Zhaozixiang1228/IVIF-AUIF-Net",
        "8f54650",
        "Models/",
        (
            "TCSVT_Encoder_Base.model",
            37619,
            "c4fe51b85637e3befc89b27e3cbb7a765aea37871eb4da4f58b471680ce7eb72",
        ),
        (
            "TCSVT_Encoder_Detail.model",
            37619,
            "92e1ad6a4b7e5a2acc442a3a57c3b0e48a2af262f487942e42d81334de204726",
        ),
        (
            "TCSVT_Decoder.model",
            1213,
            "7966d490bb4003821c8f20ce1197c22d020ab986850571c5dfa02b0defad8ad3",
        ),
    ),
    "swinfuse": Official(
        "SwinFuse",
        NONE_STATED,
        "torch",
        "swinfuse:from_torch",
        (
            File(
                "Final_epoch_50_Mon_Feb_14_17_37_05_2022_1e3.model",
                words=(
                    "the file-sharing page linked in the readme of Zhishe-Wang/SwinFuse on GitHub"
                ),
            ),
        ),
    ),
    "ydtr": _torch(
        "YDTR",
        "ydtr:from_torch",
        "tthinking/YDTR",
        "b1f01b4",
        "models/",
        (
            "model_10.pth",
            893678,
            "183c31a103ada74063e644b300d6708ed567dcc231a9d0f8d52e098c6c2a0d32",
        ),
    ),
    "tardal-dt": _torch(
        *_TARDAL,
        ("tardal.pt", 1203451, "e0fa61e25cffa9fb14ff17b47ea7ba237a6e8c6f37e1b9b115d63354ff0f13e1"),
        licence=_TARDAL_LICENCE,
        copies=(
            (
                File(
                    "tardal-dt.pth",
                    1202363,
                    "887b12bd9928ee87c17cbc3cbaef5079778a678e437cba91d607b1fa66856834",
                    at=("fuhx-ai/TarDAL", "40d68cf", "weights/v1/tardal-dt.pth"),
                ),
            ),
        ),
    ),
    "tardal-tt": _torch(
        *_TARDAL,
        ("tardal+.pt", 1201819, "cff3756548b511e3e415616debc557cdc85b3bb19393ca158cac8d08f232897c"),
        licence=_TARDAL_LICENCE,
    ),
    "tardal-ct": _torch(
        *_TARDAL,
        (
            "tardal++.pt",
            1201819,
            "7009d125e36db043d6918d9358e10c6dca7fdf2dd08ada09c5ecd294f45f98c5",
        ),
        licence=_TARDAL_LICENCE,
    ),
    "seafusion": _torch(
        "SeAFusion",
        "seafusion:from_torch",
        "Linfeng-Tang/VIF-Benchmark",
        "23f2e51",
        "Checkpoint/SeAFusion/",
        (
            "SeAFusion.pth",
            682043,
            "8d65a7f9a50f36349803368cf9920f40420776995e7e8cc8a56d8d30e499431d",
        ),
        licence="MIT, as stated by a benchmark of the same author",
    ),
    "datfuse": _torch(
        "DATFuse",
        "datfuse:from_torch",
        "tthinking/DATFuse",
        "0cd93f1",
        "",
        ("model_10.pth", 65189, "075b636954cbd425fc29be808bcfb42232e29b203f054c2a637ed301300d5a1d"),
    ),
    "u2fusion": _bundle(
        "U2Fusion",
        "hanna-xu/U2Fusion",
        "0a58821",
        "model/model.ckpt",
        (905, "15b7d283a1de8f616cc42978346bd24d47a9c380d624370368b956beb593014e"),
        (2636868, "e50cada8d4ec92f2577ad5db5d212fba521dffb35d04e00a20364b43512c64c8"),
    ),
    "sdnet": _bundle(
        "SDNet",
        "HaoZhang1018/SDNet",
        "bf6a2ee",
        "IR_VIS/checkpoint/IRVIS.model-10",
        (1325, "bed2d4628732a36bc972de1189c4e139d8bc233077da20156e8e662a17df35aa"),
        (268364, "17e4426453f09f3dae7887244f48eed54550bdd584792ac284597ee3713293a0"),
        licence="MIT",
    ),
    "lrrnet": _torch(
        "LRRNet",
        "lrrnet:from_torch",
        "hli1221/imagefusion-LRRNet",
        "e489fc3",
        "model/",
        (
            "final_lrr_net_lam2_1.5_wir_3.0_lam3_gram_2000_epoch_4_block_4.model",
            218515,
            "1de9dd8dee9b650ce69c74ea53e3b9a6b749222f1059a689aabf28f68ee63e29",
        ),
    ),
    "gifnet": _torch(
        "GIFNet",
        "gifnet:from_torch",
        "AWCXV/GIFNet",
        "c8ad04a",
        "model/",
        (
            "Final.model",
            3408450,
            "bfc1dfef0d5b386b0c04f172daf8f6af52ba395f26dc3dd5757425fd32eb1038",
        ),
    ),
    "cddfuse": _by_blob(
        "CDDFuse",
        "Zhaozixiang1228/MMIF-CDDFuse",
        "fd8da1f",
        "models/CDDFuse_IVF.pth",
        "d2794226bd48961132111bceff89ce3c955b3985",
    ),
    "emma": _by_blob(
        "EMMA",
        "Zhaozixiang1228/MMIF-EMMA",
        "9983ca2",
        "model/EMMA.pth",
        "46f382475767323b83f3f7f52dc2bed0ac6b7476",
    ),
}


def official(name: str) -> tuple[str, Official]:
    """Return the registry's name and entry of a checkpoint (``ifcnn-max``) or method (``IFCNN``).

    A method stands for its default, the first. ValueError for an unknown name.
    """
    for key, entry in CHECKPOINTS.items():
        if name in (key, entry.method):
            return key, entry
    methods = dict.fromkeys(entry.method for entry in CHECKPOINTS.values())
    raise ValueError(
        f"name: expected a method ({', '.join(methods)}), a checkpoint such as"
        f" {next(iter(CHECKPOINTS))} (fusionlib data weights lists them) or a path that ends in"
        f" .safetensors, got {name!r}"
    )
