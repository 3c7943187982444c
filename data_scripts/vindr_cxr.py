#!/usr/bin/env python3
"""VinDr-CXR (PhysioNet, credentialed; a part of it on Kaggle): what to fetch and sign, prepare, verify.

  python data_scripts/vindr_cxr.py fetch               what to sign and the command that downloads, resumable
  python data_scripts/vindr_cxr.py prepare ROOT OUT    write OUT/{train,valid,test}.parquet, prepared.json
  python data_scripts/vindr_cxr.py verify  ROOT        the tables, films that are missing or damaged, and
                                                       counts beside the published ones
Only numbers and numbers of records are printed: no id of the data set.
OUT holds data under the same agreement as ROOT: keep it outside this repository.
"""
import argparse
import os
import sys
from pathlib import Path

from rrg_core.data import vindr_cxr
from rrg_core.engine.settings import CourseError

HOW = """VinDr-CXR cannot be fetched for you: its agreement is personal.
1. Get credentialed at https://physionet.org/settings/credentialing/
   (with the CITI course "Data or Specimens Only Research").
2. Sign the agreement of https://physionet.org/content/vindr-cxr/ (some 190 GB, 18,000 DICOM files).
3. Download; a broken download goes on when the command is run again:
     wget -r -N -c -np -nH --cut-dirs=3 --user YOU --ask-password -P ROOT \\
       https://physionet.org/files/vindr-cxr/1.0.0/
4. Checksums come with the data: (cd ROOT && sha256sum -c --quiet SHA256SUMS.txt)
5. DICOM files are read with pydicom: pip install pydicom (the extra "dicom").
   python data_scripts/vindr_cxr.py verify ROOT
   python data_scripts/vindr_cxr.py prepare ROOT OUT    (reads every header once)
   then put `vindr-cxr = OUT` (or ROOT) under [roots] in settings.ini, or set RRG_ROOT_VINDR_CXR.
Kaggle's copy (https://www.kaggle.com/c/vinbigdata-chest-xray-abnormalities-detection) has the training films
and 14 of the 22 classes; accept its rules there. ROOT is the folder that holds train.csv and train/.
It has no labels of its test films: prepare it with --split-by hash, or do without a test."""

def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="what to sign and what to run")
    make = commands.add_parser("prepare", help="write Parquet files")
    make.add_argument("root", type=Path)
    make.add_argument("out", type=Path)
    make.add_argument("--boxes", choices=("given", "fused"), default="given",
                      help="each reader's, or fused at an IoU of .1")
    make.add_argument("--names", choices=("course", "own"), default="course", help="what boxes are called")
    make.add_argument("--split-by", choices=vindr_cxr.SPLITS_BY, default="official",
                      help="the publisher's test films whole, ChEX's halves of them (PhysioNet alone), or a "
                      "test drawn from the training films")
    make.add_argument("--damaged", choices=("error", "skip"), default="error",
                      help="what an image does that is missing or cannot be opened")
    check = commands.add_parser("verify", help="files and counts")
    check.add_argument("root", type=Path)
    check.add_argument("--images", action="store_true", help="read every film (hours), not only look for it")
    for command in (make, check):
        command.add_argument("--jobs", type=int, default=os.cpu_count(),
                             help="processes that read films; all cores by default")
    return p

def main(args=None):
    a = parser().parse_args(args)
    if a.command == "fetch": print(HOW)
    elif a.command == "prepare":
        note = vindr_cxr.prepare(a.root, a.out, a.damaged, a.jobs, boxes=a.boxes, names=a.names,
                                 split_by=a.split_by)
        for split, s in note["splits"].items():
            print(split, ", ".join(f"{k}: {v:,}" for k, v in s["counts"].items()))
    else:
        counts, wrong = vindr_cxr.verify(a.root, a.images, a.jobs)
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
