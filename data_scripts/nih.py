#!/usr/bin/env python3
"""NIH ChestX-ray14 (free use with attribution, no account): where to fetch it, prepare, verify.

  python data_scripts/nih.py fetch               where the files are, and how they must lie
  python data_scripts/nih.py prepare ROOT OUT    write OUT/{train,valid,test}.parquet, prepared.json
  python data_scripts/nih.py verify  ROOT        the tables, films that are missing or damaged, counts beside
                                                 the published ones
"""
import argparse
import os
import sys
from pathlib import Path

from rrg_core.data import nih_cxr14
from rrg_core.engine.settings import CourseError

HOW = """ChestX-ray14 lies at https://nihcc.app.box.com/v/ChestXray-NIHCC (45 GB). The site has no address
that a script could fetch from with a checksum, so download in the browser:
1. images/images_001.tar.gz to images_012.tar.gz; unpack each into a folder of its own name below ROOT:
     for k in $(seq -w 1 12); do
       mkdir -p ROOT/images_0$k && tar xzf images_0$k.tar.gz -C ROOT/images_0$k
     done
2. train_val_list.txt, test_list.txt and, unless the tables of torchxrayvision will do,
   Data_Entry_2017_v2020.csv and BBox_List_2017.csv, into ROOT.
   The copy at https://www.kaggle.com/datasets/nih-chest-xrays/data has the same files in the same folders.
3. python data_scripts/nih.py verify ROOT
   python data_scripts/nih.py prepare ROOT OUT    (reads every header once)
   then put `nih = OUT` (or ROOT) under [roots] in settings.ini, or set RRG_ROOT_NIH.
Name the source where you show the films: the NIH Clinical Center, and Wang et al., CVPR 2017."""

def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="where the files are")
    make = commands.add_parser("prepare", help="write Parquet files")
    make.add_argument("root", type=Path)
    make.add_argument("out", type=Path)
    make.add_argument("--split-by", choices=nih_cxr14.SPLITS_BY, default="official",
                      help="the official lists, or the films with boxes in two halves by patient")
    make.add_argument("--names", choices=("course", "own"), default="course", help="what boxes are called")
    make.add_argument("--damaged", choices=("error", "skip"), default="error",
                      help="what an image does that is missing or cannot be opened")
    check = commands.add_parser("verify", help="files and counts")
    check.add_argument("root", type=Path)
    check.add_argument("--images", action="store_true", help="read every film, not only look for it")
    for command in (make, check):
        command.add_argument("--jobs", type=int, default=os.cpu_count(),
                             help="processes that read films; all cores by default")
    return p

def main(args=None):
    a = parser().parse_args(args)
    if a.command == "fetch": print(HOW)
    elif a.command == "prepare":
        note = nih_cxr14.prepare(a.root, a.out, a.split_by, a.names, a.damaged, a.jobs)
        for split, s in note["splits"].items():
            print(split, ", ".join(f"{k}: {v:,}" for k, v in s["counts"].items()))
    else:
        counts, wrong = nih_cxr14.verify(a.root, a.images, a.jobs)
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
