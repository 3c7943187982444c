#!/usr/bin/env python3
"""object-CXR of JF Healthcare (free for research): what to fetch, prepare, verify.

  python data_scripts/jf_healthcare.py fetch               what to sign and what to run
  python data_scripts/jf_healthcare.py prepare ROOT OUT    write OUT/{train,valid,test}.parquet, prepared.json
  python data_scripts/jf_healthcare.py verify  ROOT        look for every image (--images: read it);
                                                           counts beside the published ones
"""
import argparse
import os
import sys
from pathlib import Path

from rrg_core.data import jf_healthcare
from rrg_core.engine.settings import CourseError

HOW = """object-CXR lies at addresses without a checksum, so nothing is fetched for you.
1. https://github.com/hlk-1135/object-CXR describes the set and names its download (Google Drive). The torrent
     https://academictorrents.com/details/fdc91f11d7010f7259a05403fc9d00079a09f5d5
   checks each piece as it comes, and its client goes on where it stopped.
2. Put train.csv, dev.csv below ROOT, and unpack train.zip, dev.zip there.
3. python data_scripts/jf_healthcare.py verify ROOT
   python data_scripts/jf_healthcare.py prepare ROOT OUT    (minutes once, then `load` takes seconds)
   then put `jf-healthcare = OUT` (or ROOT) under [roots] in settings.ini, or set RRG_ROOT_JF_HEALTHCARE."""

def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="what to sign and what to run")
    make = commands.add_parser("prepare", help="write Parquet files")
    make.add_argument("root", type=Path)
    make.add_argument("out", type=Path)
    make.add_argument("--boxes", choices=("error", "clip"), default="error",
                      help="what a shape does that leaves its image")
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
        note = jf_healthcare.prepare(a.root, a.out, a.boxes, a.damaged)
        for split, s in note["splits"].items():
            print(split, ", ".join(f"{k}: {v:,}" for k, v in s["counts"].items()))
    else:
        counts, wrong = jf_healthcare.verify(a.root, a.images, a.jobs)
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
