"""Use a model that ``ndrnn export`` wrote on images, with ONNX Runtime, NumPy and Pillow alone.

    python onnx_predict.py model.onnx image.png [image.png ...] [--out FOLDER]

Prints the text of lines, or the class of images; of networks that label points it writes NAME.labels.png, a map with the
number of a label in each pixel. Images are grey or in colour, of 8 or 16 bits.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def read(path, told):
    """An image as the network's input (H, W, C), scaled as for its training."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode in ("P", "1", "CMYK", "YCbCr"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    values = np.asarray(image)
    kind = values.dtype if values.dtype == np.uint8 else np.uint16
    most = np.iinfo(kind).max
    values = values.reshape(*values.shape[:2], -1).astype(np.float32)
    channels = told["channels"]
    if values.shape[-1] in (2, 4) and channels in (1, 3):  # what is transparent is seen on white
        alpha = values[..., -1:] / most
        values = values[..., :-1] * alpha + most * (1 - alpha)
    if values.shape[-1] == 3 and channels == 1:
        values = np.rint(values @ np.array([[0.299], [0.587], [0.114]], np.float32))
    elif values.shape[-1] == 1 and channels == 3:
        values = np.repeat(values, 3, -1)
    if values.shape[-1] != channels:
        raise SystemExit(f"{path}: has {values.shape[-1]} channels, the model expects {channels}")
    height = told.get("height", 0)
    if height and height != len(values):
        size = max(1, round(values.shape[1] * height / len(values))), height
        planes = [
            Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR)
            for plane in values.transpose(2, 0, 1)
        ]
        values = np.rint(np.stack([np.asarray(plane) for plane in planes], -1))
    if told.get("scale") == "sample":
        values = (values - values.min()) / max(values.max() - values.min(), np.float32(1e-30))
    else:
        values = values / np.float32(most)
    return 1 - values if told.get("invert") else values


def text_of(log_probs, alphabet):
    """The text of the most probable path: repeats are merged, then blanks, number 0, removed."""
    path = log_probs.argmax(-1)
    kept = [label for label, before in zip(path, [0, *path[:-1]], strict=True) if label and label != before]
    return "".join(alphabet[label - 1] for label in kept)


def main():
    parser = argparse.ArgumentParser(description="Use a model that ndrnn export wrote on images.")
    parser.add_argument("model")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path(), help="folder for maps of labels")
    options = parser.parse_args()
    session = onnxruntime.InferenceSession(options.model)
    told = json.loads(session.get_modelmeta().custom_metadata_map["ndrnn"])
    if told["ndim"] != 2:
        raise SystemExit(f"the model is for {told['ndim']} axes, images have 2")
    for path in options.images:
        x = read(path, told["input"])
        given = {"x": x[None], "sizes": np.array([x.shape[:2]])}
        found = session.run(None, given)
        if told["task"] == "transcribe":
            log_probs, frames = found
            print(f"{path}: {text_of(log_probs[0, : frames[0]], told['alphabet'])}")
        elif told["task"] == "classify":
            best = found[0][0].argmax()
            print(f"{path}: {told['classes'][best]} ({found[0][0, best]:.3f})")
        else:
            target = options.out / f"{path.stem}.labels.png"
            labels = found[0][0].argmax(-1)
            Image.fromarray(labels.astype(np.uint8 if len(told["classes"]) <= 256 else np.uint16)).save(
                target
            )
            print(f"{path}: {target}")


if __name__ == "__main__":
    main()
