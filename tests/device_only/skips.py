"""A plugin for pytest in a device's environment, `-p skips`: what needs more than a device has is skipped, and why."""

from __future__ import annotations

import pytest

# A fixture or a test, and what it needs.
NEEDS = {
    "theta": "the generator, in ONNX Runtime",
    "test_the_shipped_calibration_fits_the_model": "the generator, in ONNX Runtime",
    "detector_bytes": "the detector's package; a device has it in its bundles",
    "bundle": "enrolment",
    "test_networks_that_cannot_be_used_say_so": "both runtimes",
    "broker": "the extra mqtt",
    "test_mqtt_without_a_broker_is_told": "the extra mqtt",
    "test_a_pin_is_on_for_its_time": "the extra gpio",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        assert isinstance(item, pytest.Function)
        for name in {*item.fixturenames, item.originalname} & NEEDS.keys():
            item.add_marker(pytest.mark.skip(reason=f"needs {NEEDS[name]}"))
