"""The executor that runs a graph in PyTorch: on its GPUs, and as the oracle of the tests.

``table.ROWS`` says for each primitive how PyTorch computes it, and for some named functions; the
others run through their body.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from chainrule.core.dtype import DType, is_float, uint32
from chainrule.core.graph import Array, Graph, Node, TensorType
from chainrule.core.rewrite import expand
from chainrule.core.subgraph import Subgraph
from chainrule.errors import ChainruleError, ExecutorError
from chainrule.run import interpreter
from chainrule.run.torch import recurrent, vision  # noqa: F401 (their rows)
from chainrule.run.torch.table import ROWS, WORD, torch_dtype

__all__ = ["Plan", "prepare"]


class Plan:
    """A graph made ready for PyTorch. Arrays go in and come out, as with every executor."""

    def __init__(
        self,
        graph: Graph,
        device: str = "cpu",
        float_type: DType | None = None,
        hook: interpreter.Hook | None = None,
    ) -> None:
        self.graph = graph
        self.device = torch.device(device)
        self.float_type = float_type
        opened = expand(graph, keep=ROWS)
        given = {*opened.inputs, *opened.reads.values()}
        self._attrs: dict[Node, dict[str, Any]] = {}
        self._constants: dict[Node, torch.Tensor] = {}
        self._make_ready(node for node in opened.nodes if node not in given)
        self._plan = interpreter.Plan(opened, hook, self._evaluate)

    def __call__(self, inputs: Sequence[Array], variables: Sequence[Array]) -> list[Array]:
        """Run once.

        Args:
            inputs: one array per graph input.
            variables: one array per variable read, in the order of ``graph.reads``.

        Returns:
            The outputs, then the values to write, in the order of ``graph.writes``.
        """
        given = dict(zip(self.graph.reads, variables, strict=True))
        with torch.no_grad():
            results = self._plan(
                [self._to_device(array) for array in inputs],
                [self._to_device(given[variable]) for variable in self._plan.graph.reads],
            )
        return [
            _to_array(result, node)
            for result, node in zip(results, self.graph.results, strict=True)
        ]

    def _make_ready(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            _check_row(node)
            self._attrs[node] = self._translated(node.attrs)
            if not node.inputs:
                row = ROWS[node.op.name]
                self._constants[node] = row(**self._attrs[node]).to(self.device)

    def _type(self, dtype: DType) -> DType:
        return self.float_type if self.float_type and is_float(dtype) else dtype

    def _translated(self, attrs: Mapping[str, Any]) -> dict[str, Any]:
        """A node's attributes: element types are PyTorch's, subgraphs functions of tensors."""
        return {name: self._translate(value) for name, value in attrs.items()}

    def _translate(self, value: Any) -> Any:
        if isinstance(value, Subgraph):
            given = set(value.inputs)
            self._make_ready(node for node in value.nodes if node not in given)
            inner = interpreter.Plan(value, None, self._evaluate)
            return lambda tensors: inner(tensors, ())
        return torch_dtype(self._type(value)) if isinstance(value, np.dtype) else value

    def _to_device(self, array: Array) -> torch.Tensor:
        """A copy, since PyTorch can't hold arrays that are read-only."""
        dtype = self._type(array.dtype)
        copy = np.array(array, np.int64 if dtype == uint32 else dtype, order="C")
        return torch.from_numpy(copy).to(self.device)

    def _evaluate(self, node: Node, tensors: Sequence[Any]) -> Any:
        if node in self._constants:
            return self._constants[node]
        try:
            result = ROWS[node.op.name](*tensors, **self._attrs[node])
        except ChainruleError as error:
            raise error.at(".".join(node.scope), node.source) from None
        return result & WORD if _is_word(node) else result


def _check_row(node: Node) -> None:
    name = node.op.name
    if name not in ROWS:
        table = "chainrule/run/torch/table.py"
        error = ExecutorError(executor="torch", op=name, table=table)
        raise error.at(".".join(node.scope), node.source)


def _is_word(node: Node) -> bool:
    return isinstance(node.type, TensorType) and node.dtype == uint32


def _to_array(tensor: torch.Tensor, node: Node) -> Array:
    array: Array = tensor.cpu().numpy()
    return array.astype(uint32) if _is_word(node) else array


def prepare(
    graph: Graph,
    device: str = "cpu",
    float_type: DType | None = None,
    hook: interpreter.Hook | None = None,
) -> Plan:
    """The plan of a graph.

    Args:
        graph: what to run.
        device: PyTorch's name of the device, for example ``"cuda:0"``.
        float_type: computes every float in this type instead of the graph's own: with ``float64``,
            the exact value that a float32 graph only comes near.
        hook: called with each node and its tensor, named functions without a row being opened.

    Raises:
        ExecutorError: an op has neither a row nor a body.

    Example:
        >>> import numpy as np
        >>> from chainrule.core.graph import Graph, TensorType
        >>> from chainrule.core.op import input
        >>> x = input(TensorType((2,), np.dtype("float64")))
        >>> prepare(Graph([x], [x * 2]))([np.array([1.0, 2.5])], [])
        [array([2., 5.])]
    """
    return Plan(graph, device, float_type, hook)
