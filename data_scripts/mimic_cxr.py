#!/usr/bin/env python3
"""MIMIC-CXR-JPG with reports (PhysioNet, credentialed): what to fetch and sign, prepare, verify.

  python data_scripts/mimic_cxr.py fetch               what to sign and the commands that download, resumable
  python data_scripts/mimic_cxr.py prepare ROOT OUT    write OUT/{train,valid,test}.parquet, prepared.json
  python data_scripts/mimic_cxr.py verify  ROOT        files that are missing or damaged; counts beside the
                                                       published ones
Only numbers are printed: no id and no text of the data set leaves the folders that you name.
OUT holds report texts: keep it under the same agreement as ROOT, outside this repository.
"""
import argparse
import os
import sys
from pathlib import Path

from rrg_core.data import mimic_cxr
from rrg_core.engine.settings import CourseError

HOW = """MIMIC-CXR cannot be fetched for you: its agreement is personal.
1. Get credentialed at https://physionet.org/settings/credentialing/
   (with the CITI course "Data or Specimens Only Research").
2. Sign the agreements of
     https://physionet.org/content/mimic-cxr-jpg/   images, labels, split (about 570 GB)
     https://physionet.org/content/mimic-cxr/       reports
3. Download; a broken download goes on when the command is run again:
     wget -r -N -c -np -nH --cut-dirs=3 --user YOU --ask-password -P ROOT \\
       https://physionet.org/files/mimic-cxr-jpg/2.1.0/
     wget -c --user YOU --ask-password -P ROOT \\
       https://physionet.org/files/mimic-cxr/2.1.0/mimic-cxr-reports.zip
4. Checksums come with the data: (cd ROOT && sha256sum -c --quiet SHA256SUMS.txt)
5. python data_scripts/mimic_cxr.py verify ROOT
   python data_scripts/mimic_cxr.py prepare ROOT OUT    (minutes once, then `load` takes seconds)
   then put `mimic-cxr = OUT` (or ROOT) under [roots] in settings.ini, or set RRG_ROOT_MIMIC_CXR."""

def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="what to sign and what to run")
    make = commands.add_parser("prepare", help="write Parquet files")
    make.add_argument("root", type=Path)
    make.add_argument("out", type=Path)
    make.add_argument("--need", nargs="*", default=["findings"], help="sections that must not be empty")
    make.add_argument("--views", nargs="*", default=["AP", "PA"], help="view positions; none = all")
    check = commands.add_parser("verify", help="files and counts")
    check.add_argument("root", type=Path)
    for command in (make, check):
        command.add_argument("--sections", choices=("course", "official"), default="course",
                             help="who cuts a report: the course's grammar, or the official parser's rules")
        command.add_argument("--overrides", type=Path,
                             help="your copy of the official section_parser.py, for --sections official; "
                             "by default the one under the root, if any")
        command.add_argument("--jobs",
                             type=int,
                             default=os.cpu_count(),
                             help="processes that read files; all cores by default")
    check.add_argument("--images", action="store_true", help="read every image (hours), not only look for it")
    return p

def main(args=None):
    a = parser().parse_args(args)
    if a.command == "fetch": print(HOW)
    elif a.command == "prepare":
        note = mimic_cxr.prepare(a.root, a.out, tuple(a.need), tuple(a.views), jobs=a.jobs,
                                 sections=a.sections, overrides=a.overrides)
        print("written:", ", ".join(f"{split} {s['studies']:,}" for split, s in note["splits"].items()))
    else:
        counts = mimic_cxr.verify(a.root, a.images, a.jobs)
        print(", ".join(f"{k}: {v:,}" for k, v in counts.items()))
        reports = mimic_cxr.read_reports(a.root, mimic_cxr.read_table(a.root, "split"), a.jobs,
                                         a.sections, a.overrides)
        differ = sum(
            (mimic_cxr.funnel(a.root, views=v, reports=reports)[0].check() for v in (("AP", "PA"), ())), [])
        for line in dict.fromkeys(differ):
            print("differs:", line)
        return 1 if differ or any(v for k, v in counts.items() if "missing" in k or "damaged" in k) else 0
    return 0

if __name__ == "__main__":
    try:
        sys.exit(main())
    except CourseError as e:
        sys.exit(f"error: {e}")
