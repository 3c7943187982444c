#!/usr/bin/env python3
"""Chest ImaGenome (PhysioNet, credentialed): what to fetch and sign, prepare, verify.

  python data_scripts/chest_imagenome.py fetch               what to sign and the command that downloads
  python data_scripts/chest_imagenome.py prepare ROOT OUT    write OUT/{train,valid,test}.parquet and a note
  python data_scripts/chest_imagenome.py verify  ROOT        every graph, films that are missing or damaged,
                                                             and counts beside the published ones
The films are MIMIC-CXR-JPG's.
Only numbers and numbers of records are printed: no id and no text of the data set.
OUT holds sentences of reports: keep it under the same agreement as ROOT, outside this repository.
"""
import argparse
import os
import sys
from pathlib import Path

from rrg_core.data import chest_imagenome
from rrg_core.engine.settings import CourseError

HOW = """Chest ImaGenome cannot be fetched for you: its agreement is personal.
1. Get credentialed at https://physionet.org/settings/credentialing/
   (with the CITI course "Data or Specimens Only Research").
2. Sign the agreement of https://physionet.org/content/chest-imagenome/ (a few GB), and that of
   MIMIC-CXR-JPG: the films and their sizes are there (`python data_scripts/mimic_cxr.py fetch`).
3. Download; a broken download goes on when the command is run again:
     wget -r -N -c -np -nH --cut-dirs=3 --user YOU --ask-password -P ROOT \\
       https://physionet.org/files/chest-imagenome/1.0.0/
   silver_dataset/scene_graph.zip may stay packed.
4. Checksums come with the data: (cd ROOT && sha256sum -c --quiet SHA256SUMS.txt)
5. python data_scripts/chest_imagenome.py verify ROOT --mimic MIMIC
   python data_scripts/chest_imagenome.py prepare ROOT OUT --mimic MIMIC    (many minutes once)
   then put `chest-imagenome = OUT` under [roots] in settings.ini, or set RRG_ROOT_CHEST_IMAGENOME."""

def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="what to sign and what to run")
    make = commands.add_parser("prepare", help="write Parquet files")
    make.add_argument("root", type=Path)
    make.add_argument("out", type=Path)
    make.add_argument("--split-by", choices=chest_imagenome.SPLITS_BY, default="own",
                      help="the set's own split, or MIMIC-CXR's")
    make.add_argument("--gold", action="store_true", help="the 1,000 films corrected by hand")
    make.add_argument("--keep-gold-patients", action="store_true",
                      help="do not leave the films of images_to_avoid.csv out, as in ChEX")
    make.add_argument("--least", type=int, default=5, help="regions that a film must have")
    check = commands.add_parser("verify", help="files and counts")
    check.add_argument("root", type=Path)
    for command in (make, check):
        command.add_argument("--mimic", type=Path,
                             help="folder of MIMIC-CXR-JPG; by default the one in settings.ini")
    check.add_argument("--images", action="store_true", help="read every film (hours), not only look for it")
    check.add_argument("--jobs", type=int, default=os.cpu_count(),
                       help="processes that read films; all cores by default")
    return p

def main(args=None):
    a = parser().parse_args(args)
    if a.command == "fetch": print(HOW)
    elif a.command == "prepare":
        note = chest_imagenome.prepare(a.root, a.out, a.mimic, split_by=a.split_by, gold=a.gold,
                                       avoid=not a.keep_gold_patients, least=a.least)
        for split, s in note["splits"].items():
            print(split, ", ".join(f"{k}: {v:,}" for k, v in s["counts"].items()))
    else:
        counts, wrong = chest_imagenome.verify(a.root, a.mimic, a.images, a.jobs)
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
