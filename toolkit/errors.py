"""Every mistake a user can make, as one exception tree, and the exit code each one ends with.

    HyperverifyError          1   an error of ours that nobody foresaw a better class for
    ├── UsageError            2   wrong option, wrong configuration, impossible combination
    ├── MissingError          3   a package, a model file or a piece of hardware is not there
    ├── InputError            4   a photo, video or data file cannot be used
    │   └── FaceError         4   ... because of what it shows; carries a machine-readable reason
    ├── GateError             5   a parity, accuracy or regression gate was not met
    ├── LinkError             6   a device cannot be reached, or did not do what it was asked to
    └── ArtifactError         7   a bundle or model file is refused (hash, signature, schema, spec)

Exit code 10 is a decision ("not this person"), not an error, and 130 means interrupted.
This module has no dependencies: the device part and the workstation share it.
"""

from __future__ import annotations

EXIT_ACCEPTED = 0
EXIT_REJECTED = 10
EXIT_INTERRUPTED = 130


class HyperverifyError(Exception):
    """One clear sentence: what went wrong, what was found, what was expected, what to do."""

    exit_code = 1

    def __init__(self, what: str, *, got: object = None, expected: object = None, do: str = ""):
        self.what, self.got, self.expected, self.do = what, got, expected, do
        parts = [what]
        if got is not None:
            parts.append(f"got {got}")
        if expected is not None:
            parts.append(f"expected {expected}")
        if do:
            parts.append(do)
        super().__init__("; ".join(parts))


class UsageError(HyperverifyError):
    exit_code = 2


class MissingError(HyperverifyError):
    exit_code = 3


class InputError(HyperverifyError):
    exit_code = 4


class FaceError(InputError):
    """A picture that cannot be used because of what it shows. `reason` is a stable identifier."""

    def __init__(self, reason: str, what: str, **details: object):
        super().__init__(what, **details)  # type: ignore[arg-type]
        self.reason = reason


class GateError(HyperverifyError):
    exit_code = 5


class LinkError(HyperverifyError):
    exit_code = 6


class ArtifactError(HyperverifyError):
    exit_code = 7
