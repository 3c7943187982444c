#!/usr/bin/env python3
"""MS-CXR (PhysioNet, credentialed): what to fetch and sign, prepare, verify. The images are MIMIC-CXR-JPG's.

  python data_scripts/ms_cxr.py fetch               what to sign and the command that downloads, resumable
  python data_scripts/ms_cxr.py prepare ROOT OUT    write OUT/{train,valid,test}.parquet, prepared.json
  python data_scripts/ms_cxr.py verify  ROOT        the tables, images that are missing or damaged, and
                                                    counts beside the published ones
Only numbers and numbers of records are printed: no id and no text of the data set.
OUT holds sentences of reports: keep it under the same agreement as ROOT, outside this repository.
"""
import argparse
import os
import sys
from pathlib import Path

from rrg_core.data import ms_cxr
from rrg_core.engine.settings import CourseError

HOW = """MS-CXR cannot be fetched for you: its agreement is personal.
1. Get credentialed at https://physionet.org/settings/credentialing/
   (with the CITI course "Data or Specimens Only Research").
2. Sign the agreement of https://physionet.org/content/ms-cxr/ (a few MB), and that of MIMIC-CXR-JPG:
   the images are there (`python data_scripts/mimic_cxr.py fetch`).
3. Download; a broken download goes on when the command is run again:
     wget -r -N -c -np -nH --cut-dirs=3 --user YOU --ask-password -P ROOT \\
       https://physionet.org/files/ms-cxr/1.1.0/
4. Checksums come with the data: (cd ROOT && sha256sum -c --quiet SHA256SUMS.txt)
5. python data_scripts/ms_cxr.py verify ROOT --mimic MIMIC
   python data_scripts/ms_cxr.py prepare ROOT OUT --mimic MIMIC
   then put `ms-cxr = OUT` (or ROOT) under [roots] in settings.ini, or set RRG_ROOT_MS_CXR."""

def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="what to sign and what to run")
    make = commands.add_parser("prepare", help="write Parquet files")
    make.add_argument("root", type=Path)
    make.add_argument("out", type=Path)
    make.add_argument("--split-by", choices=ms_cxr.SPLITS_BY, default="mimic",
                      help="MIMIC-CXR's own split, ChEX's, or the release's (1.1.0)")
    make.add_argument("--form", choices=("csv", "json"), help="the CSV if there is one, by default")
    check = commands.add_parser("verify", help="files and counts")
    check.add_argument("root", type=Path)
    for command in (make, check):
        command.add_argument("--mimic", type=Path,
                             help="folder of MIMIC-CXR-JPG; by default the one in settings.ini")
    check.add_argument("--images", action="store_true", help="read every image, not only look for it")
    check.add_argument("--jobs", type=int, default=os.cpu_count(),
                       help="processes that read images; all cores by default")
    return p

def main(args=None):
    a = parser().parse_args(args)
    if a.command == "fetch": print(HOW)
    elif a.command == "prepare":
        note = ms_cxr.prepare(a.root, a.out, a.split_by, a.form, a.mimic)
        for split, s in note["splits"].items():
            print(split, ", ".join(f"{k}: {v:,}" for k, v in s["counts"].items()))
    else:
        counts, wrong = ms_cxr.verify(a.root, a.mimic, a.images, a.jobs)
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
