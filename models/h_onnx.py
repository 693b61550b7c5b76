"""Write the trained generator h_gen as an ONNX file, so that enrolment needs no torch.

Input `templates` [N, D], unit length; output `theta` [N, P], the flat weights of the spec. The graph is the formula
of `models/hypernetwork.py`; everything that does not depend on the person is folded into constants.
"""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from models.hypernetwork import RANK, HyperNetwork

OPSET = 17
IR_VERSION = 8


class _Graph:
    """Nodes and constants of a graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: torch.Tensor | np.ndarray) -> str:
        array = value.detach().numpy() if isinstance(value, torch.Tensor) else value
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def linear(self, x: str, layer: torch.nn.Linear, name: str) -> str:
        weight = self.constant(f"{name}.weight", layer.weight.T)
        return self.node("Gemm", [x, weight, self.constant(f"{name}.bias", layer.bias)], name)


@torch.no_grad()
def write_generator(network: HyperNetwork) -> bytes:
    """The ONNX file of `network`, deterministic. Raises nothing a user can cause."""
    g = _Graph()
    base = g.constant("base", network.trunk.fold()[None])  # [1, T]
    head = g.linear("templates", network.head, "head")  # [N, F + 1]
    if network.generator == "head":
        ones = g.node("ReduceSum", ["templates", g.constant("axis", np.array([1]))], "sum", keepdims=1)  # [N, 1]
        zeros = g.node("Mul", [ones, g.constant("zero", np.zeros(1, np.float32))], "zeros")
        trunk = g.node("Add", [base, zeros], "trunk")  # [N, T]
    else:
        trunk = _personal_trunk(g, network, base)
    g.node("Concat", [trunk, head], "theta", axis=1)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        g.nodes,
        f"generator_{network.generator}",
        [value("templates", TensorProto.FLOAT, ["people", network.template_dim])],
        [value("theta", TensorProto.FLOAT, ["people", network.spec.params])],
        g.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="hyperverify")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _personal_trunk(g: _Graph, network: HyperNetwork, base: str) -> str:
    gain = g.constant("template_gain", np.array([network.template_dim**0.5], np.float32))
    scaled = g.node("Mul", ["templates", gain], "scaled")
    hidden = g.node("LeakyRelu", [g.linear(scaled, network.embed, "embed")], "hidden", alpha=0.25)
    channel = g.constant("channel", network.channel)
    gamma = g.node("Gather", [g.linear(hidden, network.gamma, "gamma"), channel], "gamma_of_weight", axis=1)
    beta = g.node("Gather", [g.linear(hidden, network.beta, "beta"), channel], "beta_of_weight", axis=1)
    beta = g.node("Mul", [beta, g.constant("is_bias", network.is_bias)], "beta_of_bias")
    one = g.constant("one", np.ones(1, np.float32))
    trunk = g.node("Mul", [base, g.node("Add", [gamma, one], "factor")], "scaled_base")
    trunk = g.node("Add", [trunk, beta], "modulated")
    if network.generator == "low-rank":
        left = g.linear(hidden, network.left, "left")  # [N, C * R]
        for r, right in enumerate(network.right_of_weight()):
            own = g.node(
                "Gather", [left, g.constant(f"left_index_{r}", network.channel * RANK + r)], f"left_{r}", axis=1
            )
            delta = g.node("Mul", [own, g.constant(f"right_{r}", right[None])], f"delta_{r}")
            trunk = g.node("Add", [trunk, delta], f"trunk_{r}")
    if network.generator == "full":
        delta = g.linear(hidden, network.delta, "delta")
        delta = g.node("Mul", [delta, g.constant("scale", network.scale)], "scaled_delta")
        trunk = g.node("Add", [trunk, delta], "trunk")
    return trunk
