"""Where the library's own layers, models, tasks and readers are.

This module stands above all others: it names them, and none of them names it. ``import ndrnn`` reads it.
"""

from __future__ import annotations

from . import registry

_LAYERS = {
    name: f"ndrnn.nn.layers:{name}"
    for name in ("MDRNN", "MDLSTM", "StableMDLSTM", "LeakyMDLSTM", "SpatialLSTM", "MDGRU")
}
_LAYERS["MDLinearRNN"] = "ndrnn.nn.linear:MDLinearRNN"

registry.layers.declare(_LAYERS)
registry.models.declare(
    {
        **_LAYERS,
        "ChannelsFirst": "ndrnn.nn.layouts:ChannelsFirst",
        "Stack": "ndrnn.nn.stack:Stack",
        "TimeFirst": "ndrnn.nn.layouts:TimeFirst",
        "Hierarchy": "ndrnn.nn.hierarchy:Hierarchy",
        "LineReader": "ndrnn.nn.networks.reader:LineReader",
        "ScanBlock": "ndrnn.nn.networks.block:ScanBlock",
        "ScanClassifier": "ndrnn.nn.networks.classifier:ScanClassifier",
        "ScanUNet": "ndrnn.nn.networks.unet:ScanUNet",
        "MCGSM": "ndrnn.density.mixture.mcgsm:MCGSM",
        "RIDE": "ndrnn.density.rides:RIDE",
        "PlaneModel": "ndrnn.density.use.codec.model:PlaneModel",
        "MultiscaleRIDE": "ndrnn.density.rides:MultiscaleRIDE",
        "LumaChromaRIDE": "ndrnn.density.rides:LumaChromaRIDE",
        "LabelTask": "ndrnn.tasks.label:LabelTask",
        "ClassifyTask": "ndrnn.tasks.classify:ClassifyTask",
        "TranscribeTask": "ndrnn.tasks.transcribe:TranscribeTask",
        "DensityTask": "ndrnn.tasks.density:DensityTask",
    }
)
registry.tasks.declare(
    {
        "label": "ndrnn.tasks.use:LABEL",
        "classify": "ndrnn.tasks.use:CLASSIFY",
        "transcribe": "ndrnn.tasks.use:TRANSCRIBE",
        "density": "ndrnn.tasks.use:DENSITY",
    }
)
registry.readers.declare(
    {
        "arrays": "ndrnn.data.readers.arrays:Arrays",
        "classes": "ndrnn.data.readers.folders:Classes",
        "idx": "ndrnn.data.readers.digit_files:Idx",
        "images": "ndrnn.data.readers.folders:Images",
        "lines": "ndrnn.data.readers.lines:Lines",
        "masks": "ndrnn.data.readers.pairs:Masks",
        "nnunet": "ndrnn.data.readers.nnunet:NnUnet",
        "pages": "ndrnn.data.readers.pages:Pages",
    }
)
