"""Loaders: what is read of folders, arrays and records; what is refused; and what is said of everything assumed."""

import os
import struct
import zlib

import numpy as np
import pytest

from invnet import data

PIL = pytest.importorskip("PIL")
from PIL import Image  # noqa: E402


def noise(*shape, seed=0, values=256):
    return np.random.default_rng(seed).integers(0, values, shape).astype(np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)


def rows(array):
    """Images as a sorted list of bytes, which has no order."""
    return sorted(map(bytes, array))


def everything(images):
    return np.concatenate([images.train, images.validation, images.test])


# Parts


@pytest.fixture
def parts(tmp_path):
    """Writes {folder: number of images}; gives the pixels of each."""

    def write(**numbers):
        written = {}
        for seed, (name, number) in enumerate(numbers.items()):
            written[name] = noise(number, 4, 4, 3, seed=seed)
            for i, image in enumerate(written[name]):
                save(tmp_path / name / f"{i}.png", image)
        return {name: X.transpose(0, 3, 1, 2) for name, X in written.items()}

    return write


@pytest.mark.parametrize(
    "names", [("train", "test"), ("Train", "TEST"), ("training", "testing"), ("data/train", "data/test")]
)
def test_folders_called_train_and_test_are_these_parts(parts, tmp_path, caplog, names):
    written = parts(**{names[0]: 20, names[1]: 6})
    images = data.load(tmp_path)
    assert rows(images.test) == rows(written[names[1]])
    assert rows(np.concatenate([images.train, images.validation])) == rows(written[names[0]])
    assert len(images.validation) == 2 and not caplog.messages


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_a_folder_of_a_validation_part_is_that(parts, tmp_path, val):
    written = parts(train=9, test=4, **{val: 3})
    images = data.load(tmp_path)
    for part, name in (("train", "train"), ("validation", val), ("test", "test")):
        assert rows(getattr(images, part)) == rows(written[name])


def test_parts_within_each_class_are_parts(parts, tmp_path):
    written = parts(**{"cat/train": 5, "cat/test": 2, "dog/train": 6, "dog/test": 3})
    assert rows(data.load(tmp_path).test) == rows(np.concatenate([written["cat/test"], written["dog/test"]]))


def test_without_a_test_part_it_is_taken_from_the_training_part_and_said(parts, tmp_path, caplog):
    written = parts(train=20, val=6)
    images = data.load(tmp_path)
    assert rows(images.validation) == rows(written["val"])
    assert rows(np.concatenate([images.train, images.test])) == rows(written["train"]) and len(images.test) == 2
    assert "no test part: the test is 2 of its training images" in caplog.text


@pytest.mark.parametrize("names", [("cat", "dog"), ("train", "bus"), ("train",)])
def test_folders_of_classes_are_one_data_set(parts, tmp_path, caplog, names):
    written = parts(**dict.fromkeys(names, 5))
    assert rows(everything(data.load(tmp_path))) == rows(np.concatenate(list(written.values())))
    assert ("train is taken as a folder like its neighbours" in caplog.text) == (names == ("train", "bus"))


def test_images_beside_the_parts_are_named_and_not_used(parts, tmp_path, caplog):
    parts(train=9, test=3, more=2)
    assert len(everything(data.load(tmp_path))) == 12
    assert "2 images outside train and test are not used" in caplog.text


def test_a_test_part_without_a_training_part_is_refused(parts, tmp_path):
    parts(test=3, other=9)
    with pytest.raises(ValueError, match="has test and no train: move the other 9 images into a folder train"):
        data.load(tmp_path)


@pytest.mark.parametrize("name", ["test", "val"])
def test_a_part_alone_that_is_not_for_training_is_refused(parts, tmp_path, name):
    parts(**{name: 9})
    with pytest.raises(ValueError, match=f"has {name} and no train: give the path of the folder within"):
        data.load(tmp_path)


# Files of a folder


KINDS = {
    "png": {},
    "PNG": {},
    "bmp": {},
    "webp": {"lossless": True},
    "tif": {},
    "tiff": {"compression": "tiff_lzw"},
    "ppm": {},
}


@pytest.mark.parametrize("shape", [(6, 4, 3), (6, 4)])
def test_files_of_every_kind_are_read(tmp_path, caplog, shape):
    X = noise(len(KINDS), *shape)
    for pixels, (ending, options) in zip(X, KINDS.items()):
        save(tmp_path / f"{ending}.{ending}", pixels, **options)
    images = data.load(tmp_path)
    assert rows(everything(images)) == rows(np.moveaxis(X.reshape(len(X), 6, 4, -1), 3, 1)) and not caplog.messages


def test_what_is_not_read_is_said_with_its_ending(tmp_path, caplog):
    for i, image in enumerate(noise(3, 4, 4)):
        save(tmp_path / f"{i}.png", image)
    for name in ("a.avif", "b.heic", "c.heic", "labels.csv", "README"):
        (tmp_path / name).write_text("x")
    (tmp_path / "Thumbs.db").write_text("x")
    data.load(tmp_path)
    assert "not read as images: 1 .avif, 1 .csv, 2 .heic, 1 without an ending" in caplog.text


def test_hidden_files_and_folders_are_left_out(tmp_path, caplog):
    X = noise(3, 4, 4)
    for i, image in enumerate(X):
        save(tmp_path / f"{i}.png", image)
    for name in (".DS_Store", "._0.png", ".ipynb_checkpoints/0.png", "__MACOSX/0.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no image")
    assert rows(everything(data.load(tmp_path))) == rows(X) and not caplog.messages


def test_links_are_followed_and_circles_are_not(tmp_path):
    X = noise(4, 4, 4)
    for i, image in enumerate(X):
        save(tmp_path / "elsewhere" / f"{i}.png", image)
    (tmp_path / "here").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "here" / "linked")
    os.symlink(tmp_path / "here", tmp_path / "elsewhere" / "circle")
    assert rows(everything(data.load(tmp_path / "here"))) == rows(X)


# Pixels of a folder


def turned(pixels, orientation):
    """What a camera stores for `pixels`, that are upright."""
    how = {
        1: lambda X: X,
        2: lambda X: X[:, ::-1],
        3: lambda X: X[::-1, ::-1],
        4: lambda X: X[::-1],
        5: lambda X: X.swapaxes(0, 1),
        6: lambda X: np.rot90(X),
        7: lambda X: np.rot90(X, 2).swapaxes(0, 1),
        8: lambda X: np.rot90(X, -1),
    }
    return np.ascontiguousarray(how[orientation](pixels))


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_images_are_upright_as_exif_says(tmp_path, ending):
    smooth = np.add.outer(np.arange(16) * 10, np.arange(8) * 3).astype(np.uint8)
    pixels = np.stack([smooth, smooth // 2, smooth // 4], axis=2)
    for orientation in range(1, 9):
        image = Image.fromarray(turned(pixels, orientation))
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(ending, {})
        image.save(tmp_path / f"{orientation}.{ending}", exif=exif, **options)
    images = everything(data.load(tmp_path))
    assert images.shape == (8, 3, 16, 8)
    assert abs(images.astype(int) - pixels.transpose(2, 0, 1)).max() <= (6 if ending == "jpg" else 0)


@pytest.mark.parametrize("mode, expected", [("1", 1), ("L", 1), ("P", 3), ("RGB", 3)])
def test_modes_keep_their_pixels(tmp_path, mode, expected):
    X = [Image.fromarray(image).convert(mode) for image in noise(3, 6, 4, 3)]
    for i, image in enumerate(X):
        save(tmp_path / f"{i}.png", image)
    images = data.load(tmp_path)
    assert images.shape == (expected, 6, 4)
    wanted = [
        np.asarray(image.convert("RGB" if expected == 3 else "L")).reshape(6, 4, expected).transpose(2, 0, 1)
        for image in X
    ]
    assert rows(everything(images)) == rows(wanted)


def test_grey_images_stored_in_colour_are_grey(tmp_path):
    X = noise(3, 6, 4)
    for i, image in enumerate(X):
        save(tmp_path / f"{i}.png", np.repeat(image[..., None], 3, axis=2))
    assert data.load(tmp_path).shape == (1, 6, 4)


def test_a_grey_palette_is_grey(tmp_path, caplog):
    for i, image in enumerate(noise(3, 6, 4)):
        save(tmp_path / f"{i}.gif", image)
    assert data.load(tmp_path).shape == (1, 6, 4) and not caplog.messages


def test_grey_images_among_colour_are_counted(tmp_path, caplog):
    for i, image in enumerate([*noise(3, 6, 4, 3), noise(6, 4)]):
        save(tmp_path / f"{i}.png", image)
    assert data.load(tmp_path).shape == (3, 6, 4)
    assert "1 of 4 images are grey; with the others, they are taken as RGB" in caplog.text


@pytest.mark.parametrize("mode, channels", [("LA", 1), ("RGBA", 3)])
@pytest.mark.parametrize("opaque", [True, False])
def test_a_dropped_alpha_channel_is_said_unless_it_is_opaque(tmp_path, caplog, mode, channels, opaque):
    for i, image in enumerate(noise(3, 6, 4, len(mode))):
        if opaque:
            image[..., -1] = 255
        save(tmp_path / f"{i}.png", Image.fromarray(image, mode))
    assert data.load(tmp_path).shape == (channels, 6, 4)
    assert ("3 images are not opaque; their alpha channel is dropped" in caplog.text) != opaque


def test_a_phones_photo_of_several_pictures_is_its_first(tmp_path):
    grey = np.add.outer(np.arange(8) * 20, np.arange(8) * 5)
    smooth = np.stack([grey, grey // 2, grey // 3], axis=2).astype(np.uint8)
    smaller = [Image.new("RGB", (8, 8))]
    for i in range(3):
        Image.fromarray(smooth).save(tmp_path / f"{i}.jpg", "MPO", save_all=True, append_images=smaller, quality=100)
    assert abs(data.load(tmp_path).train[0].astype(int) - smooth.transpose(2, 0, 1)).max() < 30


def png16(channels):
    """A PNG with 16 bits in each channel, which Pillow reads and does not write."""

    def write(path):
        kind, raw = {2: 4, 3: 2, 4: 6}[channels], b"".join(b"\0" + bytes(4 * 2 * channels) for _ in range(4))
        chunks = [
            (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, kind, 0, 0, 0)),
            (b"IDAT", zlib.compress(raw)),
            (b"IEND", b""),
        ]
        body = b"".join(
            struct.pack(">I", len(x)) + name + x + struct.pack(">I", zlib.crc32(name + x)) for name, x in chunks
        )
        (path / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)

    return write


def tiff16(path):
    """An uncompressed TIFF of 4x4 RGB pixels of 16 bits."""
    tags = [(256, 4), (257, 4), (258, None), (259, 1), (262, 2), (273, 200), (277, 3), (278, 4), (279, 96)]
    entries = b"".join(
        struct.pack("<HHII", tag, 3, 3, 150) if value is None else struct.pack("<HHII", tag, 4, 1, value)
        for tag, value in tags
    )
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    (path / "0.tif").write_bytes(head.ljust(150, b"\0") + struct.pack("<HHH", 16, 16, 16).ljust(50, b"\0") + bytes(96))


def written(name, image, **options):
    return lambda path: image().save(path / name, **options)


def animated(ending):
    frames = [Image.fromarray(noise(4, 4, 3, seed=seed)) for seed in range(3)]
    return written(f"0.{ending}", lambda: frames[0], save_all=True, append_images=frames[1:])


REFUSED = {
    "grey of 16 bits": (
        written("0.png", lambda: Image.fromarray(np.zeros((4, 4), np.uint16))),
        "0.png has mode 'I;16'.*--values",
    ),
    "RGB PNG of 16 bits": (png16(3), "0.png has 16 bits in each channel.*--values 65536"),
    "RGBA PNG of 16 bits": (png16(4), "16 bits in each channel"),
    "grey and alpha PNG of 16 bits": (png16(2), "16 bits in each channel"),
    "RGB TIFF of 16 bits": (tiff16, "0.tif has 16 bits in each channel"),
    "PPM of 16 bits": (
        lambda path: (path / "0.ppm").write_bytes(b"P6 4 4 65535\n" + bytes(96)),
        "16 bits in each channel",
    ),
    "floats": (written("0.tif", lambda: Image.fromarray(np.zeros((4, 4), np.float32))), "mode 'F'"),
    "CMYK": (written("0.jpg", lambda: Image.new("CMYK", (4, 4))), "mode 'CMYK': convert it"),
    "animated GIF": (animated("gif"), "0.gif has 3 frames"),
    "animated PNG": (animated("png"), "0.png has 3 frames"),
    "animated WebP": (animated("webp"), "0.webp has 3 frames"),
    "TIFF of several pages": (animated("tif"), "0.tif has 3 frames"),
    "no bytes": (lambda path: (path / "0.png").write_bytes(b""), "0.png is damaged"),
    "a text": (lambda path: (path / "0.gif").write_text("no image"), "0.gif is damaged"),
    "a link to nothing": (
        lambda path: os.symlink(path / "nowhere", path / "0.png"),
        "0.png is damaged or no image: .*No such file",
    ),
    "another size": (written("0.png", lambda: Image.new("L", (5, 4))), "0.png is 5x4.*1.png is 4x4"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_an_image_that_cannot_be_taken_as_it_is_gets_refused(tmp_path, kind):
    write, message = REFUSED[kind]
    for i, image in enumerate(noise(3, 4, 4), 1):
        save(tmp_path / f"{i}.png", image)
    write(tmp_path)
    with pytest.raises(ValueError, match=message):
        data.load(tmp_path)


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp", "webp", "tif", "ppm"])
def test_an_image_cut_short_anywhere_is_refused_by_name(tmp_path, ending):
    for i, image in enumerate(noise(3, 24, 24, 3)):
        save(tmp_path / f"{i}.{ending}", image)
    whole = (tmp_path / f"1.{ending}").read_bytes()
    for length in range(0, int(0.9 * len(whole)), max(1, len(whole) // 25)):
        (tmp_path / f"1.{ending}").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"(1.{ending} is damaged|must have one size)"):
            data.load(tmp_path)


@pytest.mark.parametrize("number", [1, 2])
def test_a_folder_of_too_few_images_is_refused(tmp_path, number):
    for i, image in enumerate(noise(number, 4, 4)):
        save(tmp_path / f"{i}.png", image)
    with pytest.raises(ValueError, match=f"at least 3 images; got {number}"):
        data.load(tmp_path)


# Few values


@pytest.mark.parametrize(
    "values, advice",
    [
        (np.arange(17), r"only 17 of 256 values occur, 0 to 16; .*--values 17"),
        (np.arange(17) * 255 // 16, r"only 17 of 256 values occur, 0 to 255; bits=5 \(--bits 5\)"),
        (np.array([0, 255]), r"only 2 of 256 values occur, 0 to 255; bits=1 \(--bits 1\)"),
        (np.arange(16) * 17, r"only 16 of 256 values occur, 0 to 255; bits=4 \(--bits 4\)"),
        (np.array([7]), "only 1 of 256 values occur, 7 to 7"),
        (np.arange(100), None),
    ],
)
def test_few_values_of_many_are_mentioned_with_advice_that_helps(tmp_path, caplog, values, advice):
    X = np.random.default_rng(0).choice(values, (12, 8, 8)).astype(np.uint8)
    for i, image in enumerate(X):
        save(tmp_path / "folder" / f"{i}.png", image)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "floats.npy", (X / 255).astype("float32"))
    for source in ("folder", "x.npy", "floats.npy"):
        caplog.clear()
        images = data.load(tmp_path / source)
        assert images.levels == 256 and rows(everything(images)) == rows(X)
        assert len(caplog.records) == (advice is not None)
        if advice:
            caplog.clear()
            option, number = ("values", len(values)) if "values" in advice and "--values" in advice else ("bits", None)
            if option == "bits" and "--bits" in advice:
                number = int(advice[-3])
            if number and source != "floats.npy":
                again = data.load(tmp_path / source, **{option: number})
                assert len(np.unique(everything(again))) == len(values) and not caplog.messages
        data.load(tmp_path / source, bits=8)
        assert not caplog.messages


def test_advice_on_few_values_names_the_option(tmp_path, caplog):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 2, (12, 8, 8)).astype("float32"))
    data.load(tmp_path / "x.npy")
    assert "x: only 2 of 256 values occur, 0 to 255; bits=1 (--bits 1) tells them apart" in caplog.text
    assert data.load(tmp_path / "x.npy", bits=1).levels == 2


# Arrays


def stored(path, **arrays):
    np.savez(path / "x.npz", **arrays)
    return path / "x.npz"


@pytest.mark.parametrize(
    "shape, taken",
    [
        ((3, 8, 6), (3, 8, 6)),
        ((8, 6, 3), (3, 8, 6)),
        ((1, 8, 6), (1, 8, 6)),
        ((8, 6, 1), (1, 8, 6)),
        ((8, 6, 4), (4, 8, 6)),
        ((2, 8, 6), (2, 8, 6)),
        ((3, 4, 4), (3, 4, 4)),
        ((4, 4, 3), (3, 4, 4)),
        ((1, 4, 2), (1, 4, 2)),
        ((8, 4, 4), None),
        ((3, 3, 3), None),
        ((8, 3, 3), None),
        ((1, 8, 1), None),
        ((4, 4, 4), None),
        ((3, 2, 1), None),
        ((32, 4, 1), None),
    ],
)
def test_the_axis_of_channels_is_the_certain_one_or_asked_for(tmp_path, caplog, shape, taken):
    X = noise(9, *shape)
    path = stored(tmp_path, images=X)
    if taken is None:
        with pytest.raises(
            ValueError, match=r"images of shape \(9, .*may be \(N, C, H, W\) or .*--layout NCHW or --layout NHWC"
        ):
            data.load(path)
    else:
        assert data.load(path).shape == taken and not caplog.messages
    first, last = data.load(path, layout="NCHW"), data.load(path, layout="NHWC")
    assert (
        rows(everything(first)) == rows(X)
        and rows(everything(last)) == rows(np.moveaxis(X, 3, 1))
        and not caplog.messages
    )


def test_many_channels_are_taken_as_stored_and_said(tmp_path, caplog):
    assert data.load(stored(tmp_path, x=noise(9, 12, 8, 8))).shape == (12, 8, 8)
    assert "taken as (N, C, H, W), 12 channels; layout='NHWC' (--layout NHWC)" in caplog.text


def test_one_image_in_colour_is_no_batch_of_grey_ones(tmp_path):
    np.save(tmp_path / "x.npy", noise(16, 12, 3))
    with pytest.raises(ValueError, match="looks like one image in colour"):
        data.load(tmp_path / "x.npy")


@pytest.mark.parametrize(
    "source, message",
    [("digits", "layout has no effect on what is no .npz or .npy file"), ("grey.npy", "grey images .*need none")],
)
def test_a_layout_that_has_no_effect_is_refused(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    np.save("grey.npy", noise(9, 4, 6))
    with pytest.raises(ValueError, match=message):
        data.load(source, layout="NCHW")


@pytest.mark.parametrize("source", ["digits", "x.bin"])
def test_values_that_have_no_effect_are_refused(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.bin").write_bytes(records(3, 1)[0])
    with pytest.raises(ValueError, match="values has no effect on"):
        data.load(source, values=17)


def test_a_layout_is_one_of_two(tmp_path):
    with pytest.raises(ValueError, match="layout is NCHW or NHWC; got 'CHW'"):
        data.load(stored(tmp_path, x=noise(9, 3, 8, 8)), layout="CHW")


NAMED = {
    "keras": ({"train": "x_train", "test": "x_test"}, ["y_train", "y_test"]),
    "medmnist": (
        {"train": "train_images", "validation": "val_images", "test": "test_images"},
        ["train_labels", "val_labels"],
    ),
    "plain": ({"train": "train", "test": "test"}, ["labels"]),
    "capitals": ({"train": "X_train", "validation": "X_valid", "test": "X_test"}, ["Y_train"]),
    "turned": ({"train": "images_train", "test": "images_test"}, ["targets_train"]),
}


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("kind", NAMED)
def test_arrays_are_parts_by_their_names_and_labels_are_no_data(tmp_path, caplog, kind, rank):
    names, labels = NAMED[kind]
    X = {part: noise(20, 8, 8, 3, seed=seed) for seed, part in enumerate(names)}
    path = stored(
        tmp_path, **{names[part]: X[part] for part in X}, **{label: noise(20, *[8] * (rank - 1)) for label in labels}
    )
    images = data.load(path)
    channels_first = {part: np.moveaxis(array, 3, 1) for part, array in X.items()}
    assert rows(images.test) == rows(channels_first["test"]) and not caplog.messages
    if "validation" in X:
        assert rows(images.validation) == rows(channels_first["validation"]) and rows(images.train) == rows(
            channels_first["train"]
        )
    else:
        assert rows(np.concatenate([images.train, images.validation])) == rows(channels_first["train"])


def test_labels_that_are_objects_are_not_read(tmp_path):
    assert len(everything(data.load(stored(tmp_path, x=noise(9, 8, 8), y=np.array([{}] * 9))))) == 9


def test_arrays_of_no_part_are_named(tmp_path, caplog):
    data.load(stored(tmp_path, x_train=noise(9, 8, 8), x_test=noise(3, 8, 8), extra=noise(5, 8, 8)))
    assert "extra belong to no part and are not used" in caplog.text


def test_two_arrays_for_one_part_are_refused(tmp_path):
    with pytest.raises(ValueError, match="needs x_train and x_test.*train_masks"):
        data.load(stored(tmp_path, train_images=noise(9, 8, 8), train_masks=noise(9, 8, 8), test_images=noise(3, 8, 8)))


def test_an_npy_file_is_one_array(tmp_path):
    X = noise(9, 8, 8)
    np.save(tmp_path / "x.npy", X)
    images = data.load(tmp_path / "x.npy")
    assert images.name == "x" and rows(everything(images)) == rows(X)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("values", [2, 17, 256])
def test_floats_that_were_divided_come_back(tmp_path, caplog, dtype, values):
    X = noise(40, 8, 8, values=values)
    np.save(tmp_path / "x.npy", (X / (values - 1)).astype(dtype))
    images = data.load(tmp_path / "x.npy", values=values)
    assert images.levels == values and rows(everything(images)) == rows(X) and not caplog.messages


def test_floats_that_lose_by_256_levels_are_mentioned(tmp_path, caplog):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((9, 8, 8)))
    data.load(tmp_path / "x.npy")
    assert "no multiples of 1/255 and are rounded to 256 levels; bits=16 (--bits 16) keeps most" in caplog.text
    caplog.clear()
    data.load(tmp_path / "x.npy", bits=16)
    assert not caplog.messages


@pytest.mark.parametrize("name, content", [("x.npy", "npz"), ("x.npz", "npy")])
def test_a_file_with_the_ending_of_the_other_kind_is_refused(tmp_path, name, content):
    with open(tmp_path / name, "wb") as file:
        (np.savez if content == "npz" else np.save)(file, noise(9, 8, 8))
    with pytest.raises(ValueError, match="the ending of its name"):
        data.load(tmp_path / name)


# CIFAR


def records(N, labels, seed=0):
    """N records and their pixels."""
    pixels = noise(N, 3, 32, 32, seed=seed)
    return np.concatenate([noise(N, labels, values=10), pixels.reshape(N, -1)], axis=1).tobytes(), pixels


@pytest.mark.parametrize(
    "labels, train, test",
    [(1, ["data_batch_1.bin", "data_batch_2.bin"], "test_batch.bin"), (2, ["train.bin"], "test.bin")],
)
def test_cifars_binary_version_loads_with_its_test_part(tmp_path, caplog, labels, train, test):
    folder = tmp_path / "cifar-binary"
    folder.mkdir()
    pixels = []
    for seed, name in enumerate([*train, test]):
        content, X = records(20, labels, seed)
        (folder / name).write_bytes(content)
        pixels.append(X)
    (folder / "batches.meta.txt").write_text("airplane")
    images = data.load(folder)
    assert images.shape == (3, 32, 32) and rows(images.test) == rows(pixels[-1]) and not caplog.messages
    assert rows(np.concatenate([images.train, images.validation])) == rows(np.concatenate(pixels[:-1]))
    assert data.load(folder, bits=5).train.max() == 31
    assert rows(everything(data.load(folder / train[0]))) == rows(pixels[0])


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\xff" * 3073])
def test_other_bytes_are_no_cifar(tmp_path, content):
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(ValueError, match="no records of CIFAR-10"):
        data.load(tmp_path / "x.bin")


@pytest.mark.parametrize("name", ["data_batch_1", "x.pkl", "x.pt", "folder"])
def test_pickles_are_refused_with_the_reason(tmp_path, name):
    import pickle

    place = tmp_path / name
    if name == "folder":
        place.mkdir()
        place = place / "data_batch_1"
    place.write_bytes(pickle.dumps({"data": 1}))
    with pytest.raises(ValueError, match="pickle.*can run code"):
        data.load(tmp_path / name)
