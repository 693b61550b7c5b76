"""Loaded by the agent of a test device when it starts."""

import os

from fault_hook import install

if root := os.environ.get("HYPERVERIFY_DEVICE_ROOT"):
    install(root)
