"""Where the named data sets are published: address, name and MD5 of every archive.

The addresses and sums are those of the publishers as tonic 1.7 lists them (a test compares); those
of Speech Commands as torchaudio lists them until 0.8.
"""

from typing import NamedTuple

ZENKE = "https://zenkelab.org/datasets/"
MENDELEY = "https://data.mendeley.com/public-files/datasets/"
FIGSHARE = "https://figshare.com/ndownloader/files/"
GOOGLE = "https://storage.googleapis.com/download.tensorflow.org/data/"
SPEECH_COMMANDS = "speech_commands_v0.02"


class Archive(NamedTuple):
    """A file at `url`, kept as `name`; `md5`: of its bytes, in hexadecimal, None: unknown."""

    name: str
    url: str
    md5: str | None = None


def _zenke(name: str, md5: str) -> Archive:
    return Archive(name, ZENKE + name, md5)


# (folder of the set, part of it) -> its archive; the folders are tonic's, which finds them too,
# and of Speech Commands that of the archive
ARCHIVES = {
    ("SHD", True): _zenke("shd_train.h5.zip", "f3252aeb598ac776c1b526422d90eecb"),
    ("SHD", False): _zenke("shd_test.h5.zip", "1503a5064faa34311c398fb0a1ed0a6f"),
    ("SSC", "train"): _zenke("ssc_train.h5.zip", "d102be95e7144fcc0553d1f45ba94170"),
    ("SSC", "valid"): _zenke("ssc_valid.h5.zip", "b4eee3516a4a90dd0c71a6ac23a8ae43"),
    ("SSC", "test"): _zenke("ssc_test.h5.zip", "a35ff1e9cffdd02a20eb850c17c37748"),
    ("NMNIST", True): Archive(
        "train.zip",
        f"{MENDELEY}468j46mzdv/files/39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded",
        "20959b8e626244a1b502305a9e6e2031",
    ),
    ("NMNIST", False): Archive(
        "test.zip",
        f"{MENDELEY}468j46mzdv/files/05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded",
        "69ca8762b2fe404d9b9bad1103e97832",
    ),
    ("NCALTECH101", None): Archive(
        "N-Caltech101-archive.zip",
        f"{MENDELEY}cy6cvx3ryv/files/36b5c52a-b49d-4853-addb-a836a8883e49/file_downloaded",
        "66201824eabb0239c7ab992480b50ba3",
    ),
    ("CIFAR10DVS", None): Archive(
        "CIFAR10DVS.zip", f"{FIGSHARE}38023437", "ce3a4a0682dc0943703bd8f749a7701c"
    ),
    ("DVSGesture", True): Archive(
        "ibmGestureTrain.tar.gz", f"{FIGSHARE}38022171", "3a8f0d4120a166bac7591f77409cb105"
    ),
    ("DVSGesture", False): Archive(
        "ibmGestureTest.tar.gz", f"{FIGSHARE}38020584", "56070e45dadaa85fff82e0fbfbc06de5"
    ),
    (SPEECH_COMMANDS, None): Archive(
        f"{SPEECH_COMMANDS}.tar.gz",
        f"{GOOGLE}{SPEECH_COMMANDS}.tar.gz",
        "6b74f3901214cb2c2934e98196829835",
    ),
}
