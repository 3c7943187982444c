"""A training killed at any moment leaves a usable checkpoint, and ends like the one that nobody killed."""
import json
import os
import socket
import subprocess
import sys

import torch

PROGRAM = """
import json, os, pathlib, signal, sys, accelerate, torch
from accelerate.state import AcceleratorState
from pathlib import Path
from rrg_core.nets.training import fit, seed_everything

class Data(list):
    def __getitem__(self, i):
        return super().__getitem__(i) + torch.randn(2)

class Score:
    def of(model):
        return model[0].weight.sum()

def fatal(place, nth, late): # the nth call of a function kills its process, at its beginning or at its end
    owner, name = place.rsplit(".", 1)
    owner, calls = eval(owner), []
    work = getattr(owner, name)
    def called(*args, **kwargs):
        calls.append(name)
        if late or len(calls) < nth: out = work(*args, **kwargs)
        if len(calls) == nth: os.kill(os.getpid(), signal.SIGKILL)
        return out
    setattr(owner, name, called)

def train(folder, file):
    seed_everything(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Dropout(), torch.nn.Linear(4, 1))
    h = fit(model, Data(torch.arange(24.).view(12, 2).unbind()), loss=lambda m, x: (m(x)**2).mean(),
            evaluate=lambda m: Score.of(m), epochs=3, batch=4, every=2, best="min", folder=folder)
    ends = [r["loss"] for r in h.steps] + [e["score"] for e in h.evaluations]
    ends += [p.tolist() for p in model.parameters()]
    Path(file).write_text(json.dumps([h.processes, h.resumed, ends]))

fit(torch.nn.Linear(1, 1), [torch.ones(1)], loss=lambda m, x: m(x).sum()) # imports all that it needs
AcceleratorState._reset_state(reset_partial_state=True)
for processes, folder, port, victim, moment in json.loads(sys.argv[1]):
    alive = set()
    for rank in range(processes):
        if child := os.fork():
            alive.add(child)
            continue
        try:
            if processes > 1:
                os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes),
                                  MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            if rank == victim: fatal(*moment)
            train(folder, f"{folder}.{rank}")
        except BaseException as error: # the partner of a process that was killed
            print(f"{folder} {rank}: {error!r:.300}", file=sys.stderr)
        finally:
            os._exit(0)
    while alive: # where one is killed the others follow, as torchrun does it
        child, status = os.waitpid(-1, 0)
        alive.remove(child)
        for other in alive if status else ():
            os.kill(other, signal.SIGKILL)
"""

# The function that kills, at which call, at its end; in which of two processes; the step it goes on from.
# Nine steps of four studies, a checkpoint after 2, 4, 6, 8 and 9.
MOMENTS = [
    ("Data.__getitem__", 2, False, 1, 0),
    ("torch.nn.Dropout.forward", 4, False, 1, 2),
        ("accelerate.Accelerator.backward", 4, False, 1, 2),
    ("torch.optim.AdamW.step", 5, True, 1, 4),
    ("Score.of", 1, True, 0, 0),
    ("Score.of", 3, False, 0, 4),
    ("pathlib.Path.touch", 1, True, 0, 0), # an empty file lies there
    ("torch.save", 2, False, 0, 2),
    ("torch.save", 3, True, 0, 4), # written, and not yet in its place
    ("os.replace", 1, False, 0, 0),
    ("os.replace", 1, True, 0, 2),
    ("os.replace", 5, True, 0, 9), # the last one, of a run that never said that it had ended
    ("accelerate.Accelerator.wait_for_everyone", 2, False, 1, 4),
]
TWICE = ("torch.load", 1, True, 0) # killed again, as soon as the checkpoint has been read

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]

def test_killed_at_any_moment_it_goes_on(tmp_path):
    "A dozen moments, with one process and with two: equal losses, scores and weights."
    jobs = []
    for processes in (1, 2):
        jobs.append((processes, f"{tmp_path}/{processes}-whole", free_port(), None, None))
        for k, (*moment, victim, step) in enumerate(MOMENTS):
            folder = f"{tmp_path}/{processes}-{k}"
            kills = [(victim, moment), *([(TWICE[-1], TWICE[:-1])] if step == 4 else [])]
            for rank, how in [*kills, (None, None)]:
                jobs.append((processes, folder, free_port(), rank and rank * (processes - 1), how))
    quiet = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(jobs)], env=os.environ | quiet,
                          timeout=300, capture_output=True, text=True)
    assert not done.returncode, done.stderr[-3000:]
    read = lambda name: json.loads((tmp_path / name).read_text())
    for processes in (1, 2):
        for rank in range(processes):
            whole = read(f"{processes}-whole.{rank}")
            assert whole[:2] == [processes, 0] and len(whole[2]) == 9 + 5 + 4
            for k, (*moment, _, step) in enumerate(MOMENTS):
                name = f"{processes}-{k}.{rank}"
                assert (tmp_path / name).is_file(), (moment, done.stderr[-3000:])
                assert read(name) == [processes, step, whole[2]], (processes, moment)
                assert os.listdir(tmp_path / f"{processes}-{k}") == ["state.pt"]
