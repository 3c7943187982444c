#!/usr/bin/env python3
"""PadChest (BIMCV, agreement): what to fetch and sign, prepare, verify.

  python data_scripts/padchest.py fetch               what to sign and what to run
  python data_scripts/padchest.py prepare ROOT OUT    write OUT/{train,valid,test}.parquet, prepared.json
  python data_scripts/padchest.py verify  ROOT        look for every image (--images: read it);
                                                      counts beside the published ones
Only numbers and numbers of records are printed: no id and no text of the data set.
OUT holds data under the same agreement as ROOT: keep it outside this repository.
"""
import argparse
import os
import sys
from pathlib import Path

from rrg_core.data import padchest
from rrg_core.engine.settings import CourseError

HOW = """PadChest cannot be fetched for you: its agreement is personal.
1. Ask for access and accept the terms at https://bimcv.cipf.es/bimcv-projects/padchest/
2. You are given a link to 52 archives (about 1 TB) and to
     PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv
   A broken download goes on when the command is run again:
     wget -c -i LIST_OF_ADDRESSES -P ROOT
   A copy whose images were made smaller will do; its size is read from the images.
3. Unpack the archives below ROOT, each into a folder of its own or all into one. One copy of an image only.
4. Eleven images of the table were never uploaded, and some twenty are cut off. `verify` names their records.
5. python data_scripts/padchest.py verify ROOT
   python data_scripts/padchest.py prepare ROOT OUT    (minutes once, then `load` takes seconds)
   then put `padchest = OUT` (or ROOT) under [roots] in settings.ini, or set RRG_ROOT_PADCHEST."""

def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="what to sign and what to run")
    make = commands.add_parser("prepare", help="write Parquet files")
    make.add_argument("root", type=Path)
    make.add_argument("out", type=Path)
    make.add_argument("--views", nargs="*", default=["AP", "PA"], help="views that are kept; none = all")
    make.add_argument("--labelled", nargs="*", default=["Physician", "RNN_model"], help="who labelled")
    make.add_argument("--damaged", choices=("error", "skip"), default="skip",
                      help="what an image does that is missing or cannot be opened")
    check = commands.add_parser("verify", help="files and counts")
    check.add_argument("root", type=Path)
    check.add_argument("--images", action="store_true", help="read every image (hours), not only look for it")
    check.add_argument("--jobs",
                       type=int,
                       default=os.cpu_count(),
                       help="processes that read images; all cores by default")
    return p

def main(args=None):
    a = parser().parse_args(args)
    if a.command == "fetch": print(HOW)
    elif a.command == "prepare":
        note = padchest.prepare(a.root, a.out, a.damaged, views=a.views, labelled=a.labelled)
        for split, s in note["splits"].items():
            print(split, ", ".join(f"{k}: {v:,}" for k, v in s["counts"].items()))
    else:
        counts, wrong = padchest.verify(a.root, a.images, a.jobs)
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
