"""The networks of `keras.applications`: what each was trained on, and how it is built without its classifier."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from lookalike_exporter.compat.keras_patches import intercept_downloads, weights_cache
from lookalike_exporter.errors import ExportError, first_line
from lookalike_exporter.networks.download import file_digest, hash_algorithm
from lookalike_exporter.request import Size

_PREDICTIONS = ("predictions",)


@dataclass(frozen=True, slots=True)
class Application:
    """One network of `keras.applications`.

    Attributes:
        builder: Its name there.
        preprocess: The mode its published weights were trained with; `none` where Keras has the arithmetic
            inside the network.
        size: Height and width it was published for, in pixels: the default input.
        classifier: Layers that its weights files may hold beyond the network without classifier.
    """

    builder: str
    preprocess: str
    size: int
    classifier: tuple[str, ...] = _PREDICTIONS


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """The file with a network's ImageNet weights, as Keras publishes it.

    Attributes:
        name: The file's.
        url: Where Keras keeps it.
        digest: MD5 or SHA-256 in hex; None where Keras states none.
    """

    name: str
    url: str
    digest: str | None

    @property
    def cached(self) -> Path:
        """Where Keras itself would keep the file: one it downloaded before needs no network."""
        return weights_cache() / self.name

    def is_at(self, path: Path) -> bool:
        """Return whether a file is certainly this one: without a digest none is."""
        return (
            self.digest is not None and path.is_file() and file_digest(path, hash_algorithm(self.digest)) == self.digest
        )


_VGG = ("fc1", "fc2", "predictions")
_EFFICIENTNET_SIZES = (224, 240, 260, 300, 380, 456, 528, 600)
_EFFICIENTNETV2_SIZES = {"B0": 224, "B1": 240, "B2": 260, "B3": 300, "S": 384, "M": 480, "L": 480}

APPLICATIONS: dict[str, Application] = {
    "resnet50": Application("ResNet50", "caffe", 224, ("predictions", "probs", "fc1000")),
    "resnet101": Application("ResNet101", "caffe", 224, ("predictions", "probs", "fc1000")),
    "resnet152": Application("ResNet152", "caffe", 224, ("predictions", "probs", "fc1000")),
    "resnet50v2": Application("ResNet50V2", "tf", 224),
    "resnet101v2": Application("ResNet101V2", "tf", 224),
    "resnet152v2": Application("ResNet152V2", "tf", 224),
    "vgg16": Application("VGG16", "caffe", 224, _VGG),
    "vgg19": Application("VGG19", "caffe", 224, _VGG),
    "mobilenet": Application("MobileNet", "tf", 224, ("conv_preds",)),
    "mobilenetv2": Application("MobileNetV2", "tf", 224),
    "mobilenetv3small": Application("MobileNetV3Small", "none", 224, ("conv_2", "logits")),
    "mobilenetv3large": Application("MobileNetV3Large", "none", 224, ("conv_2", "logits")),
    "densenet121": Application("DenseNet121", "torch", 224, ("predictions", "fc1000")),
    "densenet169": Application("DenseNet169", "torch", 224, ("predictions", "fc1000")),
    "densenet201": Application("DenseNet201", "torch", 224, ("predictions", "fc1000")),
    **{
        f"efficientnetb{step}": Application(f"EfficientNetB{step}", "none", size)
        for step, size in enumerate(_EFFICIENTNET_SIZES)
    },
    **{
        f"efficientnetv2{step.lower()}": Application(f"EfficientNetV2{step}", "none", size)
        for step, size in _EFFICIENTNETV2_SIZES.items()
    },
    "inceptionv3": Application("InceptionV3", "tf", 299),
    "inceptionresnetv2": Application("InceptionResNetV2", "tf", 299),
    "xception": Application("Xception", "tf", 299),
    "nasnetmobile": Application("NASNetMobile", "tf", 224),
    "nasnetlarge": Application("NASNetLarge", "tf", 331),
    # Without ConvNeXtXLarge: Large takes 21 GiB of memory to convert, and XLarge has 1.8 times its weights.
    **{
        f"convnext{step.lower()}": Application(f"ConvNeXt{step}", "none", 224)
        for step in ("Tiny", "Small", "Base", "Large")
    },
}


def build_application(name: str, size: Size | None) -> tuple[Any, PublishedWeights]:
    """Build a network as for ImageNet weights, but with random ones; return it and the file that holds those.

    EfficientNetB0 to B7 have one more layer for ImageNet weights than without, and the MobileNets a file for
    each of several sizes: so Keras is called for ImageNet weights, and kept from downloading and loading them.

    Args:
        name: A key of `APPLICATIONS`.
        size: Height and width of the input, in pixels; None for the published ones.

    Raises:
        ExportError: Keras rejects the size.
    """
    application = APPLICATIONS[name]
    height, width = size or (application.size, application.size)
    builder = getattr(keras.applications, application.builder)
    with intercept_downloads() as downloads, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that other sizes have no weights of their own
        try:
            network = builder(include_top=False, weights="imagenet", input_shape=(height, width, 3))
        except ValueError as error:
            raise ExportError(
                f"--input-size {height}x{width}: {name} cannot be built for it: {first_line(error)}; "
                f"take a larger one, or leave the option out for {application.size}x{application.size}"
            ) from error
    return network, PublishedWeights(*downloads[0])
