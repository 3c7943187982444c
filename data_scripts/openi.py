#!/usr/bin/env python3
"""Indiana University / Open-i: fetch the images (CC BY-NC-ND 4.0, no account), prepare, verify.

  python data_scripts/openi.py fetch   ROOT        download and unpack NLMCXR_png.tgz (about 1.3 GB);
                                                   run again to go on
  python data_scripts/openi.py prepare ROOT OUT    write OUT/{train,valid,test}.parquet and prepared.json;
                                                   then `openi = OUT` in settings.ini
  python data_scripts/openi.py verify  ROOT        read every image, compare with the reports
The publisher states no checksum, so the first download is unchecked: its SHA-256 is recorded in
ROOT/SHA256SUMS, and a later one is compared with it. Where you know the SHA-256, give it (--sha256).
"""
import argparse
import os
import sys
from pathlib import Path

from rrg_core.data import openi
from rrg_core.data.fetch import fetch, unpack
from rrg_core.engine.settings import CourseError

URL = "https://openi.nlm.nih.gov/imgs/collections/NLMCXR_png.tgz"

def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--reports",
                   type=Path,
                   help="another copy of NLMCXR_reports.tgz; the bundled one by default")
    commands = p.add_subparsers(dest="command", required=True)
    get = commands.add_parser("fetch", help="download and unpack the images")
    get.add_argument("root", type=Path)
    get.add_argument("--url", default=URL, help="address of NLMCXR_png.tgz")
    get.add_argument("--sha256", help="of that file, as somebody you trust states it")
    make = commands.add_parser("prepare", help="write Parquet files")
    make.add_argument("root", type=Path, help="images in the layout of NLM, Kaggle or R2Gen")
    make.add_argument("out", type=Path)
    make.add_argument("--views", choices=("all", "frontal", "pair"), default="all")
    make.add_argument("--damaged", choices=("error", "skip"), default="error")
    check = commands.add_parser("verify", help="read every image")
    check.add_argument("root", type=Path)
    check.add_argument("--jobs",
                       type=int,
                       default=os.cpu_count(),
                       help="processes that read images; all cores by default")
    return p

def main(args=None):
    a = parser().parse_args(args)
    if a.command == "fetch":
        archive, how = fetch(a.url, a.root, a.sha256)
        print(f"{archive.name}: {how}")
        print(f"{unpack(archive, a.root, r'CXR.*[.]png'):,} images unpacked now, "
              f"{len(list(a.root.glob('CXR*.png'))):,} in all")
    elif a.command == "prepare":
        note = openi.prepare(a.root, a.out, a.damaged, views=a.views, archive=a.reports)
        for split, s in note["splits"].items():
            print(split, ", ".join(f"{k}: {v:,}" for k, v in s["counts"].items()))
    else:
        counts, damaged = openi.verify(a.root, a.reports, a.jobs)
        print(", ".join(f"{k}: {v:,}" for k, v in counts.items()))
        for name in damaged:
            print("damaged:", name)
        return 1 if damaged or counts["missing"] else 0
    return 0

if __name__ == "__main__":
    try:
        sys.exit(main())
    except CourseError as e:
        sys.exit(f"error: {e}")
