#!/usr/bin/env python3
"""CheXpert and CheXpert Plus (Stanford AIMI, agreement): what to fetch and sign, prepare, verify.

  python data_scripts/chexpert.py fetch               what to sign and what to run
  python data_scripts/chexpert.py prepare ROOT OUT    write OUT/{train,valid,test}.parquet, prepared.json
  python data_scripts/chexpert.py verify  ROOT        look for every image (--images: read it);
                                                      counts beside the published ones
Only numbers and numbers of records are printed: no id and no text of the data set.
OUT holds data under the same agreement as ROOT: keep it outside this repository.
"""
import argparse
import os
import sys
from pathlib import Path

from rrg_core.data import chexpert
from rrg_core.engine.settings import CourseError

HOW = """CheXpert cannot be fetched for you: its agreement is personal.
1. Make an account at https://stanfordaimi.azurewebsites.net and accept the research use agreement of
     CheXpert        https://aimi.stanford.edu/datasets/chexpert-chest-x-rays
     CheXpert Plus   https://aimi.stanford.edu/datasets/chexpert-plus    (reports, PNG and DICOM files)
2. The site gives an address that is yours and expires. azcopy goes on where it stopped:
     azcopy copy 'ADDRESS' ROOT --recursive --overwrite=ifSourceNewer
   Unpack the archives where they lie: the names of their folders are known to the adapter.
3. For v1.0 you may take the small copy (11 GB, images of 390 pixels) in place of the full one (440 GB).
   The test set comes with the same agreement, or with CheXlocalize: test_labels.csv and test/.
   For CheXpert Plus fetch df_chexpert_plus_240401.csv, PNG.zip and chexbert_labels.zip.
   Keep v1.0 and Plus in two roots.
4. python data_scripts/chexpert.py verify ROOT
   python data_scripts/chexpert.py prepare ROOT OUT    (minutes once, then `load` takes seconds)
   then put `chexpert = OUT` (or ROOT) under [roots] in settings.ini, or set RRG_ROOT_CHEXPERT."""

def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="what to sign and what to run")
    make = commands.add_parser("prepare", help="write Parquet files")
    make.add_argument("root", type=Path)
    make.add_argument("out", type=Path)
    make.add_argument("--views", nargs="*", default=["AP", "PA"], help="views that are kept; none = all")
    make.add_argument("--need", nargs="*", default=[], help="sections that must not be empty (Plus)")
    make.add_argument("--labels", choices=(*chexpert.LABELS, *chexpert.LABELS_PLUS),
                      help="who labelled; by default chexpert, and chexbert-impression for Plus")
    make.add_argument("--damaged", choices=("error", "skip"), default="error",
                      help="what an image does that is missing or cannot be opened")
    check = commands.add_parser("verify", help="files and counts")
    check.add_argument("root", type=Path)
    check.add_argument("--images", action="store_true", help="read every image (hours), not only look for it")
    for command in (make, check):
        command.add_argument("--files", choices=("picture", "dicom"), default="picture")
    check.add_argument("--jobs",
                       type=int,
                       default=os.cpu_count(),
                       help="processes that read images; all cores by default")
    return p

def main(args=None):
    a = parser().parse_args(args)
    if a.command == "fetch": print(HOW)
    elif a.command == "prepare":
        note = chexpert.prepare(a.root, a.out, a.damaged, views=a.views, need=a.need, labels=a.labels,
                                files=a.files)
        for split, s in note["splits"].items():
            print(split, ", ".join(f"{k}: {v:,}" for k, v in s["counts"].items()))
    else:
        counts, wrong = chexpert.verify(a.root, a.images, a.jobs, a.files)
        print(", ".join(f"{k}: {v:,}" for k, v in counts.items()))
        for line in wrong[:100]:
            print("differs:", line)
        if len(wrong) > 100: print(f"and {len(wrong) - 100:,} more")
        return 1 if wrong else 0
    return 0

if __name__ == "__main__":
    try:
        sys.exit(main())
    except CourseError as e:
        sys.exit(f"error: {e}")
