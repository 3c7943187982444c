"""Image files as people have them: one table of DICOM headers, one of formats, one of files that are refused.

A row names the public thread that it is in the spirit of; `own` is a variation that nobody reported. The pictures are
invented, and DICOM files are built here: their rows are skipped where pydicom is missing.
"""
import io
import struct
import sys

import numpy as np
import pytest
from PIL import Image as PILImage

from rrg_core.data.study import DataError, Image, image_size, read_image
from rrg_core.engine.settings import CourseError

def dicom(path, pixels, bits=None, sequence=None, syntax="1.2.840.10008.1.2.1", **header):
    "A DICOM file of some pixels; `None` in the header leaves an element out."
    pydicom = pytest.importorskip("pydicom")
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1" # digital X-ray
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.3.4"
    ds.PatientName, ds.PatientID = "Invented^Name", "19999901"
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = 8 * pixels.dtype.itemsize
    ds.BitsStored, ds.PixelRepresentation = bits or ds.BitsAllocated, int(pixels.dtype.kind == "i")
    ds.HighBit = ds.BitsStored - 1
    if pixels.dtype.kind == "f": ds.FloatPixelData = pixels.tobytes()
    else: ds.PixelData = pixels.tobytes()
    for name, value in header.items():
        if value is None: del ds[name]
        else: setattr(ds, name, value)
    for name, (descriptor, data) in (sequence or {}).items():
        item = pydicom.Dataset()
        item.LUTDescriptor = descriptor
        item.add_new("LUTData", "OW" if isinstance(data, bytes) else "US", data)
        setattr(ds, name, [item])
    ds.save_as(path, enforce_file_format=True)
    return path

U2, I2, U1 = np.uint16, np.int16, np.uint8
RAMP = [0, 1000, 2000, 3000, 4000]
HOT = [0, 100, 200, 300, 65535]
SIXTEEN = np.linspace(0, 65535, 4096).astype(U2)
WINDOW = dict(WindowCenter=2048, WindowWidth=4096)

DICOM = [ # what, thread, stored values, arguments of `dicom`, the picture
    ("nothing said: the range in use", "own", U2(RAMP), {}, [0, 64, 128, 191, 255]),
    ("12 bits in 16", "own", U2([0, 4095]), dict(bits=12), [0, 255]),
    ("12 bits that end at 1023", "own", U2([0, 341, 1023]), dict(bits=12), [0, 85, 255]),
    ("12 bits signed", "own", I2([-2048, 0, 2047]), dict(bits=12), [0, 128, 255]),
    ("16 bits signed", "own", I2([-1000, 0, 1000]), {}, [0, 128, 255]),
    ("8 bits are not spread", "own", U1([20, 40, 200]), {}, [20, 40, 200]),
    ("8 bits and slope 1 are not spread", "own", U1([20, 40, 200]), dict(RescaleSlope=1, RescaleIntercept=0), [20, 40, 200]),
    ("8 bits and slope -1 are mirrored, not spread", "own", U1([20, 40, 200]), dict(RescaleSlope=-1, RescaleIntercept=255), [235, 215, 55]),
    ("6 bits are 0 to 63", "own", U1([0, 21, 63]), dict(bits=6), [0, 85, 255]),
    ("all pixels alike", "own", U2([7, 7]), {}, [0, 0]),
    ("window and one hot pixel", "mlmed/torchxrayvision#125", U2(HOT), dict(WindowCenter=200.5, WindowWidth=401), [0, 64, 128, 191, 255]),
    ("LINEAR, its first and last value", "own", U2([999, 1000, 2000, 2001]), dict(WindowCenter=1500.5, WindowWidth=1001), [0, 0, 255, 255]),
    ("LINEAR_EXACT", "own", U2([1000, 1250, 1500, 2000]), dict(WindowCenter=1500, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT"), [0, 64, 128, 255]),
    ("SIGMOID", "own", U2([0, 1000, 1500, 2000, 60000]), dict(WindowCenter=1500, WindowWidth=1000, VOILUTFunction="SIGMOID"), [1, 30, 128, 225, 255]),
    ("the function in lower case", "own", U2([1000, 1500, 2000]), dict(WindowCenter=1500, WindowWidth=1000, VOILUTFunction="linear_exact"), [0, 128, 255]),
    ("width 1 is a threshold", "own", U2([99, 100, 101]), dict(WindowCenter=100.5, WindowWidth=1), [0, 0, 255]),
    ("several windows: the first", "own", U2(HOT), dict(WindowCenter=[200.5, 9], WindowWidth=[401, 3], WindowCenterWidthExplanation=["A", "B"]), [0, 64, 128, 191, 255]),
    ("a window and MONOCHROME1", "own", U2(HOT), dict(WindowCenter=200.5, WindowWidth=401, PhotometricInterpretation="MONOCHROME1"), [255, 191, 127, 64, 0]),
    ("a window of signed values", "own", I2([-1000, 0, 1000]), dict(WindowCenter=.5, WindowWidth=1001), [0, 128, 255]),
    ("a window is of values after slope and intercept", "own", U2([0, 100, 200]), dict(RescaleSlope=10, RescaleIntercept=-1000, WindowCenter=.5, WindowWidth=2001), [0, 128, 255]),
    ("a window of 8 bits", "own", U1([50, 100, 150]), dict(WindowCenter=100.5, WindowWidth=101), [0, 128, 255]),
    ("a window of decimals", "own", U2([0, 1, 2]), dict(WindowCenter="1.0", WindowWidth="2.0", VOILUTFunction="LINEAR_EXACT"), [0, 128, 255]),
    ("a center without a width is no window", "own", U2(RAMP), dict(WindowCenter=3), [0, 64, 128, 191, 255]),
    ("an empty window is none", "own", U2(RAMP), dict(WindowCenter="", WindowWidth=""), [0, 64, 128, 191, 255]),
    ("slope -1", "OHIF/Viewers#127", U2(RAMP), dict(RescaleSlope=-1, RescaleIntercept=4000), [255, 191, 128, 64, 0]),
    ("slope -1 and a window", "OHIF/Viewers#127", U2([0, 4095]), dict(bits=12, RescaleSlope=-1, RescaleIntercept=4095, **WINDOW), [255, 0]),
    ("slope -1 and MONOCHROME1 cancel out", "OHIF/Viewers#127", U2([0, 4095]), dict(bits=12, RescaleSlope=-1, RescaleIntercept=4095, PhotometricInterpretation="MONOCHROME1"), [0, 255]),
    ("a slope without an intercept", "own", U2([0, 4095]), dict(bits=12, RescaleSlope=-1), [255, 0]),
    ("an intercept without a slope", "own", U2([0, 100, 200]), dict(RescaleIntercept=-100, WindowCenter=.5, WindowWidth=201), [0, 128, 255]),
    ("a broken slope", "own", U2([0, 100, 200]), dict(RescaleSlope=".5", RescaleIntercept="0", WindowCenter=50.5, WindowWidth=101), [0, 128, 255]),
    ("MONOCHROME1", "cornerstonejs/cornerstone3D#2215", U2(RAMP), dict(PhotometricInterpretation="MONOCHROME1"), [255, 191, 127, 64, 0]),
    ("MONOCHROME1 with the shape that repeats it", "cornerstonejs/cornerstone3D#2215", U2(RAMP), dict(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"), [255, 191, 127, 64, 0]),
    ("PresentationLUTShape INVERSE alone is not looked at", "rii-mango/Daikon#35", U2(RAMP), dict(PresentationLUTShape="INVERSE"), [0, 64, 128, 191, 255]),
    ("8 bits MONOCHROME1", "own", U1([0, 55, 255]), dict(PhotometricInterpretation="MONOCHROME1"), [255, 200, 0]),
    ("padding is no part of the range", "own", I2([-2000, 0, 50, 100]), dict(PixelPaddingValue=-2000), [0, 0, 128, 255]),
    ("padding above the range", "own", U2([0, 50, 100, 65535]), dict(PixelPaddingValue=65535), [0, 128, 255, 0]),
    ("padding of a MONOCHROME1 file is black", "own", U2([0, 50, 100, 65535]), dict(PixelPaddingValue=65535, PhotometricInterpretation="MONOCHROME1"), [255, 127, 0, 0]),
    ("a range of padding", "own", I2([-2000, -1500, 0, 100]), dict(PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1024), [0, 0, 0, 255]),
    ("a range of padding from its end", "own", I2([-2000, -1500, 0, 100]), dict(PixelPaddingValue=-1024, PixelPaddingRangeLimit=-2000), [0, 0, 0, 255]),
    ("nothing but padding", "own", U2([9, 9]), dict(PixelPaddingValue=9), [0, 0]),
    ("padding and a window", "own", U2([0, 100, 200, 4095]), dict(bits=12, PixelPaddingValue=4095, WindowCenter=100.5, WindowWidth=201), [0, 128, 255, 0]),
    ("a table of values of interest", "own", U2([0, 1, 2, 3]), dict(sequence=dict(VOILUTSequence=([4, 0, 12], [0, 0, 4095, 4095]))), [0, 0, 255, 255]),
    ("a table of 12 bits that declares 16", "own", U2([0, 1, 2]), dict(sequence=dict(VOILUTSequence=([3, 0, 16], [0, 819, 4095]))), [0, 51, 255]),
    ("a table that begins at 100", "own", U2([0, 100, 101, 102, 999]), dict(sequence=dict(VOILUTSequence=([3, 100, 8], [0, 51, 255]))), [0, 0, 51, 255, 255]),
    ("a table of bytes in words", "own", U2([0, 1, 2, 3]), dict(sequence=dict(VOILUTSequence=([4, 0, 16], np.array([0, 13107, 26214, 65535], "<u2").tobytes()))), [0, 51, 102, 255]),
    ("a table of 8 bits packed in words", "own", U2([0, 1, 2, 3]), dict(sequence=dict(VOILUTSequence=([4, 0, 8], bytes([0, 51, 102, 255])))), [0, 51, 102, 255]),
    ("a table of 65,536 entries says 0", "own", U2([0, 32768, 65535]), dict(sequence=dict(VOILUTSequence=([0, 0, 16], np.arange(65536).astype("<u2").tobytes()))), [0, 128, 255]),
    ("a table comes before a window", "own", U2([0, 1, 2]), dict(WindowCenter=1, WindowWidth=2, sequence=dict(VOILUTSequence=([3, 0, 8], [0, 51, 255]))), [0, 51, 255]),
    ("a falling table", "own", U2([0, 1, 2]), dict(sequence=dict(VOILUTSequence=([3, 0, 8], [255, 51, 0]))), [255, 51, 0]),
    ("a table of the detector, 12 bits", "own", U2([0, 1, 2]), dict(sequence=dict(ModalityLUTSequence=([3, 0, 12], [4000, 2000, 0]))), [255, 128, 0]),
    ("a table of the detector and a window", "own", U2([0, 1, 2]), dict(sequence=dict(ModalityLUTSequence=([3, 0, 16], [0, 1000, 60000])), WindowCenter=1000.5, WindowWidth=2001), [0, 128, 255]),
    ("floats", "own", np.float32([-1, 0, 4]), {}, [0, 51, 255]),
    ("floats and a window", "own", np.float32([0, .5, 1, 99]), dict(WindowCenter=.5, WindowWidth=1, VOILUTFunction="LINEAR_EXACT"), [0, 128, 255, 255]),
    ("one frame, said", "own", U2(RAMP), dict(NumberOfFrames=1), [0, 64, 128, 191, 255]),
    ("deflated", "own", U2(RAMP), dict(syntax="1.2.840.10008.1.2.1.99"), [0, 64, 128, 191, 255]),
    ("implicit", "own", U2(RAMP), dict(syntax="1.2.840.10008.1.2"), [0, 64, 128, 191, 255]),
]

@pytest.mark.parametrize("stored, header, picture", [row[2:] for row in DICOM], ids=[row[0] for row in DICOM])
def test_a_dicom_header_is_obeyed(tmp_path, stored, header, picture):
    path = dicom(tmp_path / "a.dcm", np.array([stored]), **header)
    read = read_image(path)
    assert read.dtype == np.uint8 and read.tolist() == [picture]
    for record in ("MONOCHROME1", "monochrome2"): # the file is believed, not the record
        assert (read_image(path, record) == read).all()
    assert (Image("i", len(picture), 1, "PA", path).load() == read).all()

@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_agree_with_those_of_pydicom(tmp_path, function):
    "Where its own is right: a positive slope. Both round, so they may differ by one."
    pydicom, rng = pytest.importorskip("pydicom"), np.random.default_rng(5)
    for i in range(20):
        stored = rng.integers(0, 4096, (9, 7)).astype(U2)
        slope, intercept = rng.integers(1, 9), rng.integers(-2000, 2000)
        path = dicom(tmp_path / f"{i}.dcm", stored, bits=12, RescaleSlope=int(slope), RescaleIntercept=int(intercept), VOILUTFunction=function,
                     WindowCenter=int(rng.integers(-1000, 20000)), WindowWidth=int(rng.integers(2, 20000)))
        ds = pydicom.dcmread(path)
        theirs = pydicom.pixels.apply_voi_lut(pydicom.pixels.apply_modality_lut(stored, ds), ds)
        assert abs(read_image(path) - (theirs-intercept) / (4095*slope) * 255).max() <= .51

REFUSED_DICOM = [ # what, thread, stored values, arguments of `dicom`, words of the error
    ("several frames", "own", U2([[[0, 1]], [[2, 3]]])[0], dict(NumberOfFrames=2, PixelData=U2([0, 1, 2, 3]).tobytes()), "NumberOfFrames is 2"),
    ("colour", "own", U1([[0, 1, 2]]), dict(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, Columns=1), "PhotometricInterpretation is 'RGB'"),
    ("a palette", "own", U1([[0, 1]]), dict(PhotometricInterpretation="PALETTE COLOR"), "PhotometricInterpretation is a text of 13"),
    ("YBR", "own", U1([[0, 1]]), dict(PhotometricInterpretation="YBR_FULL"), "PhotometricInterpretation is 'YBR_FULL'"),
    ("MONOCHROME3", "own", U1([[0, 1]]), dict(PhotometricInterpretation="MONOCHROME3"), "PhotometricInterpretation is 'MONOCHROME3'"),
    ("no picture", "own", U1([[0, 1]]), dict(PixelData=None), "PixelData is missing"),
    ("half of the pixels", "PathologyDataScience/BCSS#5", U1([[0, 1, 2, 3]]), dict(PixelData=bytes(2)), "no readable DICOM image"),
    ("no size", "own", U1([[0, 1]]), dict(Rows=None), "no readable DICOM image"),
    ("width 0", "own", U2([[0, 1]]), dict(WindowCenter=1, WindowWidth=0), "WindowWidth is 0"),
    ("width below 1", "own", U2([[0, 1]]), dict(WindowCenter=1, WindowWidth=".5"), "WindowWidth is 0.5"),
    ("a negative width", "own", U2([[0, 1]]), dict(WindowCenter=1, WindowWidth=-4, VOILUTFunction="SIGMOID"), "WindowWidth is -4"),
    ("an unknown function", "own", U2([[0, 1]]), dict(WindowCenter=1, WindowWidth=4, VOILUTFunction="CUBIC"), "VOILUTFunction 'CUBIC' is none of"),
    ("a table without entries", "own", U2([[0, 1]]), dict(sequence=dict(VOILUTSequence=([0, 0, 16], b""))), "no readable DICOM image"),
    ("NaN", "own", np.float32([[0, np.nan]]), {}, "pixels must be finite"),
    ("infinity and a window", "own", np.float32([[0, np.inf]]), WINDOW, "pixels must be finite"),
]

@pytest.mark.parametrize("stored, header, words", [row[2:] for row in REFUSED_DICOM], ids=[row[0] for row in REFUSED_DICOM])
def test_a_dicom_file_that_is_no_radiograph_is_named(tmp_path, stored, header, words):
    path = dicom(tmp_path / "film.dcm", stored, **header)
    with pytest.raises(DataError, match=f"film.dcm: .*{words}") as e:
        read_image(path)
    assert "\n" not in str(e.value) and "19999901" not in str(e.value) and "Invented" not in str(e.value)

def test_a_compressed_dicom_file_names_its_decoder(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    path = dicom(tmp_path / "a.dcm", U2([RAMP]))
    ds = pydicom.dcmread(path)
    ds.compress(pydicom.uid.RLELossless)
    ds.save_as(tmp_path / "rle.dcm") # pydicom decodes this one by itself
    assert read_image(tmp_path / "rle.dcm").tolist() == [[0, 64, 128, 191, 255]]
    ds.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
    ds.save_as(tmp_path / "lossless.dcm")
    if not pydicom.pixels.get_decoder(pydicom.uid.JPEGLosslessSV1).is_available:
        with pytest.raises(DataError, match="TransferSyntaxUID is JPEG Lossless.*pip install python-gdcm"):
            read_image(tmp_path / "lossless.dcm")

@pytest.mark.parametrize("name", ["a.dcm", "a.DICOM", "a", "a.png", "1.2.840.113"])
def test_dicom_is_known_by_its_content(tmp_path, name):
    assert read_image(dicom(tmp_path / name, U2([RAMP]))).tolist() == [[0, 64, 128, 191, 255]]

@pytest.mark.parametrize("name", ["a.dcm", "a.dicom", "a.png"])
def test_a_picture_is_known_by_its_content(tmp_path, name):
    PILImage.fromarray(U1([[0, 9]])).save(tmp_path / name, "PNG")
    assert read_image(tmp_path / name).tolist() == [[0, 9]]

@pytest.mark.parametrize("data, words", [(b"", "is no DICOM file"), (b"text", "is no DICOM file"),
                                         (None, "does not exist"), (bytes(128) + b"DICM" + b"\1" * 40, "without a picture")])
def test_what_only_looks_like_dicom(tmp_path, data, words):
    pytest.importorskip("pydicom")
    if data is not None: (tmp_path / "a.dcm").write_bytes(data)
    with pytest.raises(DataError, match=f"a.dcm: .*{words}"):
        read_image(tmp_path / "a.dcm")

def test_a_dicom_file_cut_anywhere_is_an_error(tmp_path):
    whole = dicom(tmp_path / "whole.dcm", np.arange(400, dtype=U2).reshape(20, 20)).read_bytes()
    for n in range(132, len(whole), 37):
        (tmp_path / "cut.dcm").write_bytes(whole[:n])
        with pytest.raises(DataError, match="cut.dcm"):
            read_image(tmp_path / "cut.dcm")

@pytest.mark.parametrize("name", ["a.dcm", "a.png"])
def test_where_pydicom_is_missing_one_line_names_the_extra(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    (tmp_path / name).write_bytes(bytes(128) + b"DICM")
    with pytest.raises(CourseError, match=f'{name}: reading DICOM needs pydicom .the extra "dicom".: pip install pydicom') as e:
        read_image(tmp_path / name)
    assert "\n" not in str(e.value)

CORNER = U1([[10, 60, 110], [160, 210, 250]]) # no two pixels are alike, so each turn is known by its result
TURNED = { # orientation: what a viewer shows (EXIF 2.32, tag 274: which side of the scene the first row and column are)
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.T,
    6: lambda a: a[::-1].T, 7: lambda a: a[::-1, ::-1].T, 8: lambda a: a[:, ::-1].T, 0: lambda a: a, 9: lambda a: a
}

@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind, mode", [("PNG", "L"), ("PNG", "RGB"), ("PNG", "P"), ("PNG", "I;16"), ("PNG", "1"), ("TIFF", "L"),
                                        ("TIFF", "RGB"), ("TIFF", "I;16"), ("TIFF", "F"), ("WEBP", "RGB"), ("JPEG", "L")])
def test_exif_turns_the_picture(tmp_path, orientation, kind, mode):
    "own: sides were exchanged without a word."
    exif, path = PILImage.Exif(), tmp_path / f"a.{kind.lower()}"
    exif[274] = orientation
    big = np.kron(CORNER, np.ones((8, 8), U1)) if kind == "JPEG" else CORNER # one block of JPEG a pixel
    if mode == "I;16": im = PILImage.fromarray(big.astype(U2) * 257)
    elif mode == "F": im = PILImage.fromarray(big.astype("f4"))
    else: im = PILImage.fromarray(big).convert(mode)
    plain = tmp_path / f"plain.{kind.lower()}"
    options = dict(lossless=True) if kind == "WEBP" else dict(quality=100) if kind == "JPEG" else {}
    im.save(path, kind, exif=exif, **options)
    im.save(plain, kind, **options)
    shown, stored = read_image(path), read_image(plain)
    assert (shown == TURNED[orientation](stored)).all()
    if mode in ("L", "RGB") and kind != "JPEG": assert (shown == TURNED[orientation](CORNER)).all()
    height, width = shown.shape
    assert image_size(path) == (width, height) and Image("i", width, height, "PA", path).load().shape == shown.shape
    inverted = read_image(path, "MONOCHROME1")
    assert (inverted == 255 - shown).all()

def test_a_damaged_exif_block_is_no_damaged_picture(tmp_path):
    im = PILImage.fromarray(CORNER)
    for i, block in enumerate((b"Exif\0\0", b"Exif\0\0MM\0", b"Exif\0\0XX\0*\0\0\0\10", b"Exif\0\0MM\0*\0\0\0\10\0\3", b"\xff" * 40)):
        im.save(tmp_path / f"{i}.png", exif=block)
        assert (read_image(tmp_path / f"{i}.png") == CORNER).all() and image_size(tmp_path / f"{i}.png") == (3, 2)

def grey(pixels, mode): # a picture of a mode whose grey value is known
    im = PILImage.fromarray(pixels)
    if mode in ("LA", "RGBA"):
        im = im.convert(mode)
        im.putalpha(PILImage.fromarray(255 - pixels)) # transparency is no part of a radiograph
    elif mode == "P":
        im.putpalette([v for v in range(256) for _ in range(3)])
    elif mode == "P inverted":
        im = PILImage.fromarray(255 - pixels)
        im.putpalette([255 - v for v in range(256) for _ in range(3)])
    elif mode.endswith("JPEG"): im = im.convert("YCbCr")
    else: im = im.convert(mode)
    return im

MODES = [ # mode, format, ending
    ("L", "PNG", "png"), ("LA", "PNG", "png"), ("RGB", "PNG", "png"), ("RGBA", "PNG", "png"), ("P", "PNG", "png"),
    ("P inverted", "PNG", "png"), ("L", "TIFF", "tif"), ("LA", "TIFF", "tif"), ("RGB", "TIFF", "tiff"), ("RGBA", "TIFF", "tif"),
    ("P", "TIFF", "tif"), ("L", "BMP", "bmp"), ("RGB", "BMP", "bmp"), ("P", "BMP", "bmp"), ("P", "GIF", "gif"), ("L", "GIF", "gif"),
    ("L", "PPM", "pgm"), ("RGB", "PPM", "ppm"), ("RGB", "WEBP", "webp"), ("RGBA", "WEBP", "webp"), ("L", "TGA", "tga"),
    ("L", "JPEG2000", "jp2"), ("RGB", "JPEG2000", "jp2"), ("L", "PNG", "jpg"), ("L", "TIFF", "png"), ("L", "PNG", "PNG")
]

@pytest.mark.parametrize("mode, kind, ending", MODES, ids=lambda x: x)
def test_a_picture_of_every_mode(tmp_path, mode, kind, ending):
    pixels = np.random.default_rng(3).integers(0, 256, (24, 17), dtype=U1)
    grey(pixels, mode).save(tmp_path / f"a.{ending}", kind, **(dict(lossless=True, exact=True) if kind == "WEBP" else {}))
    assert (read_image(tmp_path / f"a.{ending}") == pixels).all()

@pytest.mark.parametrize("mode, kind", [("L", "JPEG"), ("RGB", "JPEG"), ("YCbCr JPEG", "JPEG"), ("YCbCr JPEG", "TIFF")])
def test_a_picture_with_loss(tmp_path, mode, kind):
    pixels = np.add.outer(np.arange(0, 128, 2), np.arange(0, 96, 2)).astype(U1)
    grey(pixels, mode).save(tmp_path / "a.JPG", kind)
    assert abs(read_image(tmp_path / "a.JPG").astype(int) - pixels).max() <= 4

DEEP = [ # what, values, type, format, the picture
    ("16 bits", [100, 1124, 2148, 4195], "u2", "PNG", [0, 64, 128, 255]),
    ("16 bits, all in use", [0, 13107, 65535], "u2", "PNG", [0, 51, 255]),
    ("one hot pixel: the range in use, as the page says", [0, 4095, 65535], "u2", "PNG", [0, 16, 255]),
    ("16 bits TIFF", [0, 13107, 65535], "u2", "TIFF", [0, 51, 255]),
    ("16 bits TIFF, the other order", [0, 13107, 65535], ">u2", "TIFF", [0, 51, 255]),
    ("16 bits PGM", [0, 13107, 65535], "u2", "PPM", [0, 51, 255]),
    ("32 bits", [-1000, 0, 4000], "i4", "TIFF", [0, 51, 255]),
    ("floats", [-1, 0, 4], "f4", "TIFF", [0, 51, 255]),
    ("small floats", [0, .2e-6, 1e-6], "f4", "TIFF", [0, 51, 255]),
    ("floats, all alike", [3, 3], "f4", "TIFF", [0, 0]),
    ("1 bit", [0, 1, 1, 0], "?", "PNG", [0, 255, 255, 0]),
    ("1 bit TIFF", [0, 1, 1, 0], "?", "TIFF", [0, 255, 255, 0]),
]

@pytest.mark.parametrize("values, kind, container, picture", [row[1:] for row in DEEP], ids=[row[0] for row in DEEP])
def test_depths(tmp_path, values, kind, container, picture):
    PILImage.fromarray(np.array([values], kind)).save(tmp_path / "a", container)
    assert read_image(tmp_path / "a").tolist() == [picture]
    assert read_image(tmp_path / "a", " monochrome1").tolist() == [[255 - v for v in picture]]

@pytest.mark.parametrize("white, picture", [(0, 255 - CORNER), (1, CORNER)])
def test_a_tiff_says_whether_zero_is_white(tmp_path, white, picture):
    tags = [(256, 3), (257, 2), (258, 8), (259, 1), (262, white), (273, 122), (277, 1), (278, 2), (279, 6)] # 122: the head's bytes
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + b"".join(struct.pack("<HHII", t, 4, 1, v) for t, v in tags)
    (tmp_path / "a.tif").write_bytes(head + bytes(4) + CORNER.tobytes())
    assert (read_image(tmp_path / "a.tif") == picture).all()

@pytest.mark.parametrize("mode, kind", [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("LAB", "TIFF")])
def test_a_picture_for_the_printer_is_named(tmp_path, mode, kind):
    PILImage.new(mode, (9, 9)).save(tmp_path / "print", kind)
    with pytest.raises(DataError, match=f"print: mode {mode} is no grey or colour image"):
        read_image(tmp_path / "print")

@pytest.mark.parametrize("kind, n", [("GIF", 2), ("PNG", 3), ("TIFF", 2), ("WEBP", 2)])
def test_several_pictures_in_a_file_are_refused(tmp_path, kind, n):
    first, *others = [PILImage.fromarray(np.roll(CORNER, i)) for i in range(n)]
    first.save(tmp_path / "many", kind, save_all=True, append_images=others)
    with pytest.raises(DataError, match=f"many: file holds {n} pictures, one is expected"):
        read_image(tmp_path / "many")

@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF", "BMP", "PPM", "TGA", "WEBP", "JPEG2000", "SGI", "PCX", "DDS"])
def test_a_damaged_file_is_named_whatever_its_decoder_raises(tmp_path, kind):
    "PathologyDataScience/BCSS#5: cut at random places, and with bytes changed in its first two hundred."
    rng = np.random.default_rng(7)
    im = PILImage.fromarray(rng.integers(0, 256, (40, 30), dtype=U1)).convert("RGB" if kind in ("WEBP", "DDS") else "L")
    im.save(data := io.BytesIO(), kind)
    data, refused = data.getvalue(), 0
    for i in range(60):
        wrong = bytearray(data)
        if i % 2: wrong = wrong[:rng.integers(1, len(wrong) * 3 // 4)]
        else: wrong[rng.integers(0, min(len(wrong), 200))] = rng.integers(0, 256)
        (tmp_path / "film").write_bytes(wrong)
        try:
            assert read_image(tmp_path / "film").dtype == U1
        except DataError as e:
            refused += "\n" not in str(e) and f"{tmp_path.name}/film: " in str(e)
    assert refused >= (20 if kind not in ("TGA", "PCX", "PPM") else 10)

REFUSED = [ # what, thread, bytes (None: no file), words of the error
    ("nothing", "PathologyDataScience/BCSS#5", b"", "is no image"),
    ("zeros", "PathologyDataScience/BCSS#5", bytes(4000), "is no image"),
    ("HTML", "own", b"<!DOCTYPE html><html><body>Sign in</body></html>", "is no image"),
    ("an LFS pointer", "own", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "is no image"),
    ("an archive", "own", b"PK\3\4" + bytes(60), "is no image"),
    ("a gzip", "own", b"\x1f\x8b\x08" + bytes(60), "is no image"),
    ("JSON", "own", b'{"error": "401"}', "is no image"),
    ("SVG", "own", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is no image"),
    ("PDF", "own", b"%PDF-1.4\n", "is no image"),
    ("PNG without a body", "own", b"\x89PNG\r\n\x1a\n", "is damaged|is no image"),
    ("JPEG without a body", "own", b"\xff\xd8\xff\xe0\0\x10JFIF\0", "is damaged|is no image"),
    ("no file", "own", None, "does not exist"),
]

@pytest.mark.parametrize("data, words", [row[2:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_no_image_is_named(tmp_path, data, words):
    if data is not None: (tmp_path / "film.png").write_bytes(data)
    for read in (lambda: read_image(tmp_path / "film.png"), Image("i", 3, 2, "PA", tmp_path / "film.png").load):
        with pytest.raises(DataError, match=f"film.png: file ({words})") as e:
            read()
        assert "\n" not in str(e.value)

def test_a_folder_is_no_image(tmp_path):
    for name in ("folder.png", "folder.dcm"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="folder.png: file is damaged or cannot be read"):
        read_image(tmp_path / "folder.png")
    with pytest.raises((DataError, CourseError), match="folder.dcm"):
        read_image(tmp_path / "folder.dcm")

@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_that_is_too_large_is_named(tmp_path):
    PILImage.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    with pytest.raises(DataError, match="huge.png: file is damaged or cannot be read .DecompressionBombError"):
        read_image(tmp_path / "huge.png")
