#!/usr/bin/env python3
"""BRAX (PhysioNet, credentialed): what to fetch and sign, prepare, verify.

  python data_scripts/brax.py fetch               what to sign and what to run
  python data_scripts/brax.py prepare ROOT OUT    write OUT/{train,valid,test}.parquet, prepared.json
  python data_scripts/brax.py verify  ROOT        look for every image (--images: read it);
                                                  counts beside the published ones
Only numbers and numbers of records are printed: no id and no text of the data set.
OUT holds data under the same agreement as ROOT: keep it outside this repository.
"""
import argparse
import os
import sys
from pathlib import Path

from rrg_core.data import brax
from rrg_core.engine.settings import CourseError

HOW = """BRAX cannot be fetched for you: its agreement is personal.
1. Get credentialed at https://physionet.org/settings/credentialing/
   (with the CITI course "Data or Specimens Only Research").
2. Sign the agreement of https://physionet.org/content/brax/
3. Download the table and the PNG files; a broken download goes on when the command is run again:
     wget -r -N -c -np -nH --cut-dirs=3 --user YOU --ask-password -P ROOT \\
       -X /files/brax/1.1.0/Anonymized_DICOMs https://physionet.org/files/brax/1.1.0/
   Without -X the DICOM files come, too.
4. Checksums come with the data: (cd ROOT && sha256sum -c --quiet --ignore-missing SHA256SUMS.txt)
5. python data_scripts/brax.py verify ROOT
   python data_scripts/brax.py prepare ROOT OUT    (minutes once, then `load` takes seconds)
   then put `brax = OUT` (or ROOT) under [roots] in settings.ini, or set RRG_ROOT_BRAX."""

def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="what to sign and what to run")
    make = commands.add_parser("prepare", help="write Parquet files")
    make.add_argument("root", type=Path)
    make.add_argument("out", type=Path)
    make.add_argument("--views", nargs="*", default=["AP", "PA"], help="views that are kept; none = all")
    make.add_argument("--damaged", choices=("error", "skip"), default="error",
                      help="what an image does that is missing or cannot be opened")
    check = commands.add_parser("verify", help="files and counts")
    check.add_argument("root", type=Path)
    check.add_argument("--images", action="store_true", help="read every image (hours), not only look for it")
    for command in (make, check):
        command.add_argument("--files", choices=("png", "dicom"), default="png")
    check.add_argument("--jobs",
                       type=int,
                       default=os.cpu_count(),
                       help="processes that read images; all cores by default")
    return p

def main(args=None):
    a = parser().parse_args(args)
    if a.command == "fetch": print(HOW)
    elif a.command == "prepare":
        note = brax.prepare(a.root, a.out, a.damaged, views=a.views, files=a.files)
        for split, s in note["splits"].items():
            print(split, ", ".join(f"{k}: {v:,}" for k, v in s["counts"].items()))
    else:
        counts, wrong = brax.verify(a.root, a.images, a.jobs, a.files)
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
