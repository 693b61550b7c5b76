"""The command line `toolkit`. Commands import what they need when they run, so `--help` is instant."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from toolkit import __version__
from toolkit.commands import (
    bank,
    bench,
    cameras,
    deploy,
    devices,
    doctor,
    enroll,
    evaluate,
    export,
    export_batch,
    flash,
    init_device,
    keys,
    model_files,
    pack,
    pam,
    parity,
    report,
    run,
    train,
    verify,
    wheelhouse,
)
from toolkit.errors import EXIT_INTERRUPTED, HyperverifyError
from toolkit.output import SCHEMA_VERSION

app = typer.Typer(
    name="toolkit",
    help="Personal face verification on the edge: enrol a person from photos into a tiny verifier, and run it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for function in (
    enroll.enroll,
    verify.verify,
    run.run,
    cameras.cameras,
    init_device.init_device,
    pam.pam,
    export.export,
    export_batch.export_batch,
    parity.parity,
    report.report,
    flash.flash,
    deploy.deploy,
    pack.pack,
    wheelhouse.wheelhouse,
    train.train,
    doctor.doctor,
):
    app.command()(function)
app.add_typer(bench.app, name="bench")
app.add_typer(evaluate.app, name="eval")
app.add_typer(bank.app, name="bank")
app.add_typer(model_files.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(devices.app, name="devices")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"hyperverify {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; every ending is one sentence and an exit code of `toolkit/errors.py`."""
    # `toolkit … | head` ends quietly, as other tools do; its exit code is then the signal's, never "accepted".
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):  # a file's name that is no text must not cost the decision about it
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        code = app(standalone_mode=False)
        return code if isinstance(code, int) else 0
    except TyperException as error:
        message = error.format_message().rstrip(".")
        if message.startswith("Usage:"):  # called without any argument
            print(message)
            return error.exit_code
        return _fail(f"{message}; see `toolkit --help`", "UsageError", error.exit_code, None)
    except HyperverifyError as error:
        return _fail(str(error), type(error).__name__, error.exit_code, getattr(error, "reason", None))
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except OSError as error:
        return _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", "OSError", 2, None)
    except Exception as error:
        if os.environ.get("HYPERVERIFY_DEBUG"):
            raise
        what = f"unexpected {type(error).__name__}: {error}"
        return _fail(f"{what}; set HYPERVERIFY_DEBUG=1 to see where", "Unexpected", 1, None)


def _fail(message: str, kind: str, code: int, reason: str | None) -> int:
    print(f"error: {message}", file=sys.stderr)
    if "--json" in sys.argv:
        detail = {"type": kind, "message": message, "exit_code": code, "reason": reason}
        print(json.dumps({"schema_version": SCHEMA_VERSION, "error": detail}))
    return code
