"""``python -m MODULE ARGUMENTS`` in a process of its own that need not import torch, MONAI and Lightning, which takes seconds.

A server has imported them and forks for every command. What is forked goes on as the interpreter does: module as ``__main__``,
folder, environment, streams, exit code, hooks at the end. Not as in a new process are what reads the environment or the command
line while it is imported, and how ``torch`` loads `monai_lighter.autoload`: it is called instead.
"""

import atexit
import contextlib
import gc
import logging
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

MODULES = ("monai.bundle", "lightning.pytorch", "ignite", "nibabel", "torch.utils.tensorboard", "monai_lighter.workflow.workflow",
           "monai_lighter.engines", "monai_lighter.commands.main", "monai_lighter.share.proof")  # fmt: skip


class Server:
    """Starts the processes. Started with the first command; ends with `close`, or with this process."""

    def __init__(self, connection=None):
        self._process, self._connection = None, connection

    def run(self, module, arguments, cwd, environment, timeout):
        """Gives the finished process, as `subprocess.run` does.

        Args:
            module: name of what ``python -m`` runs.
            arguments: strings after it.
            cwd: working directory.
            environment: the whole of it.
            timeout: seconds.

        Raises:
            subprocess.TimeoutExpired: it and all that it started have been killed.
        """
        return self.run_together([(module, arguments, cwd, environment)], timeout)[0]

    def run_together(self, commands, timeout):
        """Runs several at the same time, each given by what `run` takes, and gives the finished processes."""
        if self._connection is None:
            self._start()
        with tempfile.TemporaryDirectory() as folder:
            streams = [
                [str(Path(folder) / f"{name}_{i}") for name in ("stdout", "stderr")] for i in range(len(commands))
            ]
            orders = [
                (module, arguments, str(cwd or Path.cwd()), environment, files)
                for (module, arguments, cwd, environment), files in zip(commands, streams, strict=True)
            ]
            self._connection.send(orders)
            groups = self._connection.recv()
            lines = [[sys.executable, "-m", module, *arguments] for module, arguments, *_ in commands]
            if not self._connection.poll(timeout):
                for group in groups:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(group, signal.SIGKILL)
                self._connection.recv()
                raise subprocess.TimeoutExpired(lines[0], timeout)
            return [
                subprocess.CompletedProcess(line, code, *(Path(file).read_text() for file in files))
                for line, code, files in zip(lines, self._connection.recv(), streams, strict=True)
            ]

    def _start(self):
        self._connection, other = Pipe()
        command = [sys.executable, __file__, str(other.fileno())]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(command, pass_fds=[other.fileno()], env=environment, stdin=subprocess.DEVNULL)
        other.close()

    def close(self):
        if self._process is not None:
            self._connection.close()
            self._process.wait(60)


class Forked:
    """In the place of the module ``subprocess``, where ``run`` is all that is used of it, for ``python -m MODULE``."""

    def __init__(self, server):
        self._server = server

    def run(self, command, cwd, env, **others):
        """Finished process; its output is captured as text, whatever else is asked for."""
        return self._server.run(command[2], command[3:], cwd, env, timeout=200)


def serve(connection):
    """Exit code of this process: of one that has been forked and has run its module, or of the server in the end."""
    gc.freeze()
    while True:
        try:
            orders = connection.recv()
        except EOFError:
            return 0
        children = []
        for module, arguments, cwd, environment, streams in orders:
            child = os.fork()
            if child == 0:
                connection.close()
                become(module, arguments, cwd, environment, streams)
                return run(module)
            children.append(child)
        connection.send(children)
        connection.send([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])


def become(module, arguments, cwd, environment, streams):
    """Makes this process what ``python -m MODULE ARGUMENTS`` is before the module runs."""
    os.setsid()
    for stream, number in zip(streams, (1, 2), strict=True):
        file = os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    added = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path not in before]
    sys.path[:1] = [cwd, *added]
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["-m", *arguments]
    sys.orig_argv = [sys.executable, "-m", module, *arguments]
    if module == "monai_lighter":
        log_to_standard_error()
    if arguments[:1] == ["package"]:
        prove_in_a_fork()
    autoload()


def prove_in_a_fork():
    """The process in which ``package`` tries its archive out is forked from this one as it is before anything has run."""
    connection, other = Pipe()
    if os.fork() == 0:
        connection.close()
        end(serve(other))
    other.close()
    sys.modules["monai_lighter.share.proof"].subprocess = Forked(Server(connection))


def log_to_standard_error():
    """MONAI's log goes where standard output was when it was imported: this package's command line has set that aside by then."""
    loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]
    for handler in {handler for logger in loggers for handler in logger.handlers}:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.setStream(sys.stderr)


def run(module):
    """Exit code of a module as ``__main__``; what it raises goes to the interpreter's hook, which may exit with another one."""
    try:
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit:
            raise
        except BaseException:
            sys.excepthook(*sys.exc_info())
            return 1
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1
    return 0


def end(code):
    """As the interpreter does, but without taking every module to pieces, which takes longer than most commands."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    from monai_lighter.autoload import autoload

    for name in MODULES:
        import_module(name)
    end(serve(Connection(int(sys.argv[1]))))
