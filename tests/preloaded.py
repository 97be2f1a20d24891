"""``python -m MODULE ARGUMENTS`` in a process of its own that need not import torch, MONAI and Lightning, which takes seconds.

`Popen` is `subprocess.Popen`, but for such a process: a server has imported them, and forks it. It is a child of the process
that asked for it, as any other is. What is forked goes on as the interpreter does: module as ``__main__``, folder, environment,
streams, exit code, hooks at the end. Not as in a new process are what reads the environment or the command line while it is
imported, ``/proc/PID/environ``, and how ``torch`` loads `monai_lighter.autoload`: it is called instead. What it starts is forked
likewise, from a server that has been forked before the module ran: trials of studies, workers of torchrun, proofs of packages.
"""

import atexit
import contextlib
import ctypes
import fcntl
import gc
import inspect
import logging
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import NamedTuple

MODULES = ("monai.bundle", "lightning.pytorch", "ignite", "nibabel", "torch.utils.tensorboard", "torch.distributed.run",
           "matplotlib.backends.backend_agg", "jinja2", "scipy.stats", "sklearn.model_selection", "optuna", "submitit",
           "monai_lighter.workflow.workflow", "monai_lighter.engines", "monai_lighter.commands.main",
           "monai_lighter.commands.stage", "monai_lighter.share.proof", "monai_lighter.study.runner",
           "monai_lighter.report.writing")  # fmt: skip
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": ""}
SIGNATURE = inspect.signature(subprocess.Popen._execute_child)
PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
PR_SET_CHILD_SUBREAPER = 36
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that a server leaves to those of its group that they are meant for."""


class Order(NamedTuple):
    """What a server is asked for. File descriptors follow: of the three streams, and those with the numbers in ``passed``."""

    words: list
    module: str
    arguments: list
    cwd: str
    environment: dict
    new_session: bool
    passed: list


class Popen(subprocess.Popen):
    """`subprocess.Popen`, by the server of this process where it is for ``python [-u] -m MODULE``."""

    server: Connection | None = None
    lock = threading.Lock()

    def _execute_child(self, *given):
        call = SIGNATURE.bind(self, *given).arguments
        words = [] if isinstance(call["args"], (str, bytes, os.PathLike)) else [*map(os.fspath, call["args"])]
        option = next((i for i, word in enumerate(words[:3]) if word in ("-m", "-um")), 0)
        if call["shell"] or not option or words[:option] not in ([sys.executable], [sys.executable, "-u"]):
            return super()._execute_child(*given)
        sys.audit("subprocess.Popen", words[0], words, call["cwd"], call["env"])
        module, *arguments = words[option + 1 :]
        folder, environment = str(call["cwd"] or Path.cwd()), os.environ if call["env"] is None else call["env"]
        passed = [*call["pass_fds"]]
        order = Order(words, module, arguments, folder, dict(environment), call["start_new_session"], passed)
        streams = [call[name] if call[name] >= 0 else i for i, name in enumerate(("p2cread", "c2pwrite", "errwrite"))]
        with self.lock:
            self.pid = self._ask(order, [*streams, *passed])
        self._child_created = True
        self._close_pipe_fds(*(call[name] for name in PIPES))
        return None

    @classmethod
    def _ask(cls, order, numbers):
        """The process is a grandchild of the server, whose parent ends: the system hands it to the next of its ancestors that
        asks for such orphans."""
        cls.server = cls.server or start_server()
        prctl = ctypes.CDLL(None).prctl
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            cls.server.send(tuple(order))  # the class is of another module there
            for number in numbers:
                send_handle(cls.server, number, None)
            pid = cls.server.recv()
            cls.server.recv()
            return pid
        finally:
            prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def start_server():
    connection, other = Pipe()
    command = [sys.executable, __file__, str(other.fileno())]
    subprocess.Popen(command, pass_fds=[other.fileno()], env=ENVIRONMENT, stdin=subprocess.DEVNULL)
    other.close()
    return connection


def run_together(commands, timeout, fresh=False):
    """Runs processes at the same time, and gives them finished, as `subprocess.run` does.

    Args:
        commands: of each the words after ``python``, working directory and the whole environment.
        timeout: seconds.
        fresh: whether they are new interpreters.

    Raises:
        subprocess.TimeoutExpired: they and all that they started have been killed.
    """
    with contextlib.ExitStack() as opened:
        started = []
        for words, cwd, environment in commands:
            files = [opened.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2)]
            kind = Popen.__base__ if fresh else Popen
            how = {"cwd": cwd, "env": environment, "stdin": subprocess.DEVNULL, "start_new_session": True}
            started.append((kind([sys.executable, *words], stdout=files[0], stderr=files[1], **how), files))
        until = time.monotonic() + timeout
        try:
            for process, _ in started:
                process.wait(max(0, until - time.monotonic()))
        except BaseException:
            for process, _ in started:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            raise
        done = []
        for process, files in started:
            for file in files:
                file.seek(0)
            done.append(subprocess.CompletedProcess(process.args, process.returncode, *(file.read() for file in files)))
        return done


def serve(connection):
    """Forks what is asked for. Gives the exit code of a process that has been forked; ends a server."""
    gc.freeze()
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            order = Order(*connection.recv())
        except (EOFError, ConnectionError):
            os._exit(0)
        files = [recv_handle(connection) for _ in range(3 + len(order.passed))]
        parent = os.fork()
        if parent == 0:
            for number in IGNORED:  # here, so that none is lost that is sent at once
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            parent, child = os.getpid(), os.fork()
            if child == 0:
                connection.close()
                while os.getppid() == parent:
                    time.sleep(0.001)
                become(order, files)
                return run(order.module)
            connection.send(child)
            os._exit(0)
        for file in files:
            os.close(file)
        os.waitpid(parent, 0)
        connection.send(None)


def become(order, files):
    """Makes this process what ``python -m MODULE ARGUMENTS`` is before the module runs."""
    if order.new_session:
        os.setsid()
    beyond = [fcntl.fcntl(file, fcntl.F_DUPFD, 256) for file in files]
    for file in files:
        os.close(file)
    numbers = [0, 1, 2, *order.passed]
    for file, number in zip(beyond, numbers, strict=True):
        os.dup2(file, number)
        os.close(file)
    os.chdir(order.cwd)
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    added = [path for path in order.environment.get("PYTHONPATH", "").split(os.pathsep) if path not in before]
    sys.path[:1] = [order.cwd, *added]
    os.environ.clear()
    os.environ.update(order.environment)
    fork_server(numbers)
    sys.argv = ["-m", *order.arguments]
    sys.orig_argv = order.words
    if order.words[1] in ("-u", "-um") or os.environ.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(write_through=True)
    if order.module == "monai_lighter":
        log_to_standard_error()
    autoload()


def fork_server(numbers):
    """The server of this process, which is as this one is before anything has run; it keeps none of its files."""
    Popen.server, other = Pipe()
    if os.fork() == 0:
        Popen.server.close()
        Popen.server = None
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in numbers:
            os.dup2(nothing, number)
        end(serve(other))
    other.close()


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
        except BaseException as error:
            sys.excepthook(*sys.exc_info())
            return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
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
    if code == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


if __name__ == "__main__":
    subprocess.Popen = Popen
    from monai_lighter.autoload import autoload

    for name in MODULES:
        import_module(name)
    end(serve(Connection(int(sys.argv[1]))))
