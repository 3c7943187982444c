#!/usr/bin/env python3
"""CANDID-PTX (figshare, agreement): what to fetch and sign, prepare, verify.

  python data_scripts/candid_ptx.py fetch               what to sign and what to run
  python data_scripts/candid_ptx.py prepare ROOT OUT    write OUT/{train,valid,test}.parquet, prepared.json
  python data_scripts/candid_ptx.py verify  ROOT        look for every image (--images: read it);
                                                        counts beside the published ones
Only numbers and numbers of records are printed: no id and no text of the data set.
OUT holds report texts under the same agreement as ROOT: keep it outside this repository.
"""
import argparse
import os
import sys
from pathlib import Path

from rrg_core.data import candid_ptx
from rrg_core.engine.settings import CourseError

HOW = """CANDID-PTX cannot be fetched for you: its agreement is personal.
1. Read https://auckland.figshare.com/articles/dataset/CANDID-PTX/14173982 : its owners ask for an online
   course in ethics and a signed data use agreement. Since 2024 they may give no access from abroad.
2. Download what they send you below ROOT (about 28 GB):
     Pneumothorax_reports.csv   acute_rib_fracture.csv   chest_tube.csv   dataset/
3. python data_scripts/candid_ptx.py verify ROOT
   python data_scripts/candid_ptx.py prepare ROOT OUT    (minutes once, then `load` takes seconds)
   then put `candid-ptx = OUT` (or ROOT) under [roots] in settings.ini, or set RRG_ROOT_CANDID_PTX."""

def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="what to sign and what to run")
    make = commands.add_parser("prepare", help="write Parquet files")
    make.add_argument("root", type=Path)
    make.add_argument("out", type=Path)
    make.add_argument("--need", nargs="*", default=[], help="sections that must not be empty")
    make.add_argument("--damaged", choices=("error", "skip"), default="error",
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
        note = candid_ptx.prepare(a.root, a.out, a.need, a.damaged)
        for split, s in note["splits"].items():
            print(split, ", ".join(f"{k}: {v:,}" for k, v in s["counts"].items()))
    else:
        counts, wrong = candid_ptx.verify(a.root, a.images, a.jobs)
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
