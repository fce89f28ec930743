"""Processes of their own that need not import torch: each is forked off one that has imported the packages of others.

Of the six seconds that a command of nnU-Net or fsseg takes on a tiny dataset, five are such imports. nnU-Net and fsseg
themselves are imported anew in every process, with its environment. What a process is given and leaves is that of
`python -c`: words, environment, folder, standard streams, exit code. Ctrl-C reaches it, and it is killed with the
process that asked for it.
"""

import atexit
import json
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import types
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

# A console script of the environment, as its installer writes it.
_SCRIPT = """
import sys
from importlib.metadata import entry_points
(entry,) = entry_points(group="console_scripts", name=sys.argv[0])
sys.exit(entry.load()())
"""
# What nnU-Net and fsseg import of others; both are left out.
_OTHERS = (
    "acvl_utils.cropping_and_padding.bounding_boxes",
    "batchgeneratorsv2.transforms.spatial.spatial",
    "dynamic_network_architectures.architectures.unet",
    "matplotlib.pyplot",
    "monai.metrics",
    "monai.networks.nets",
    "pydantic",
    "safetensors.torch",
    "SimpleITK",
    "timm",
)
_STREAMS = 3


def script(name: str, *words: object) -> list[str]:
    """Return the words that run a console script of this environment, for `subprocess`."""
    return program(_SCRIPT, *words, name=name)


def write_scripts(folder: Path) -> Path:
    """Write a folder for PATH with the console scripts of fsseg and nnU-Net, to be found by shells; return it."""
    folder.mkdir()
    for entry in entry_points(group="console_scripts"):
        if entry.module.partition(".")[0] in ("fsseg", "nnunetv2"):
            (folder / entry.name).write_text(
                f'#!/bin/sh\nexec {shlex.join(script(entry.name))} "$@"\n', encoding="utf-8"
            )
            (folder / entry.name).chmod(0o755)
    return folder


def program(code: str, *words: object, name: str = "-c") -> list[str]:
    """Return the words that run Python code, for `subprocess`; `name` is its `sys.argv[0]`."""
    return [sys.executable, "-S", "-E", __file__, str(_server()), code, name, *map(str, words)]


@cache
def _server() -> Path:
    """Start the process that the others are forked off, once for this one; return the address of its socket."""
    folder = Path(tempfile.mkdtemp())
    address = folder / "socket"
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from warm_process import serve; serve()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, address],
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # read once, when torch is imported
        stdin=subprocess.PIPE,  # ends with this process, and so does the server
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline(), "the process to fork off did not start"

    def end() -> None:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return address


def serve() -> None:
    """Import the packages of others, then fork off what is asked for until standard input ends."""
    import gc
    import importlib

    for name in _OTHERS:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else every process that ends looks through all of it, and copies it by that
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who answer
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(sys.argv[1])
        listening.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while listening in select.select([listening, sys.stdin], [], [])[0]:
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _answer(connection)
            connection.close()


def _answer(connection: socket.socket) -> None:
    """Fork off one process and say its number and exit code; does not return, but in the process forked off."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, streams, _, _ = socket.recv_fds(connection, 8, _STREAMS)
    content = json.loads(_read(connection, int.from_bytes(message, "big")))
    process = os.fork()
    if process == 0:
        connection.close()
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
            os.close(stream)
        _run(**content)
    for stream in streams:
        os.close(stream)
    connection.sendall(f"{process}\n".encode())
    if connection in select.select([connection, os.pidfd_open(process)], [], [])[0]:
        os.kill(process, signal.SIGKILL)  # who asked for it is gone
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    connection.sendall(str(code if code >= 0 else 128 - code).encode())
    os._exit(0)


def _read(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        content += connection.recv(size - len(content))
    return content


def _run(code: str, words: list[str], environment: dict[str, str], folder: str) -> None:
    """Be the process that was asked for, to its end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = words
    sys.path[:2] = [os.path.dirname(sys.executable)]  # of a console script; not that of the tests
    main = types.ModuleType("__main__")  # without a file, as that of `python -c`: what it starts finds nothing to run
    sys.modules["__main__"] = main
    exec(compile(code, words[0], "exec"), main.__dict__)
    sys.exit()


def ask(address: str, code: str, *words: str) -> int:
    """Let a process be forked off with the streams, environment and folder of this one; return its exit code."""
    content = {"code": code, "words": words, "environment": dict(os.environ), "folder": os.getcwd()}
    message = json.dumps(content).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [len(message).to_bytes(8, "big")], range(_STREAMS))
        connection.sendall(message)
        with connection.makefile() as answers:
            process = int(answers.readline())
            signal.signal(signal.SIGINT, lambda number, _: os.kill(process, number))
            return int(answers.readline() or 1)


if __name__ == "__main__":
    sys.exit(ask(*sys.argv[1:]))
