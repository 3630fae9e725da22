"""Graphs of particles: what each edge brings is summed at its receiver, and the interaction network made of that."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from hgqjax import resources
from hgqjax.granularity import Granularity
from hgqjax.layers._base import Layer, Module, Value
from hgqjax.layers._symbol import Symbol
from hgqjax.layers.batch_norm import BatchNorm
from hgqjax.layers.dense import Dense
from hgqjax.layers.quantize import ACTIVATION, WEIGHT, Quantize
from hgqjax.layers.shapes import concatenate, gather
from hgqjax.quantizers import AbstractQuantizer, Format

Edges = Sequence[tuple[int, int]]


def all_pairs(nodes: int) -> Edges:
    """(sender, receiver) of the edges between each two of `nodes` nodes, both ways, those of one receiver after the other.

    >>> all_pairs(3)
    ((1, 0), (2, 0), (0, 1), (2, 1), (0, 2), (1, 2))
    """
    return tuple((sender, receiver) for receiver in range(nodes) for sender in range(nodes) if sender != receiver)


class Aggregate(Layer):
    """The sum of what comes in at each node: ``y[n] = sum of q(x[e])`` over the edges e whose receiver is n, times ``2**-shift``.

    Args:
      receivers: the node of each edge, a whole number 0 .. nodes - 1 for each. nodes: how many there are; one without an edge has 0.
      features: of an edge; x is (rows, edges, features), the result (rows, nodes, features).
      shift: log2 of what the sum is divided by.
      input_quantizer, input_granularity: see `Quantize`.

    Cost: `hgqjax.resources.Sum`, over the edges of each node.
    Raises: ValueError, where a receiver is no node, or there is no edge.

    >>> layer = Aggregate((0, 2, 0), 3, 1)
    >>> layer(jax.numpy.array([[[1.0], [2.0], [0.5]]]))[0].tolist()
    [[1.5], [0.0], [2.0]]
    """

    def __init__(
        self,
        receivers: Iterable[int],
        nodes: int,
        features: int,
        *,
        shift: int = 0,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        input_granularity: Granularity = "element",
    ):
        receivers = tuple(int(n) for n in receivers)
        if not receivers or min(receivers) < 0 or max(receivers) >= nodes:
            raise ValueError(f"Aggregate: receivers are {receivers[:8]} of {nodes} nodes; an edge at least, and 0 .. nodes - 1, are needed")
        edges = [[e for e, receiver in enumerate(receivers) if receiver == n] for n in range(nodes)]
        degree = max(map(len, edges))
        self.incoming = tuple((*found, *(-1,) * (degree - len(found))) for found in edges)
        self.output_shape, self.shift = (nodes, features), int(shift)
        self.input_quantizer = Quantize((len(receivers), features), input_quantizer, input_granularity)

    def forward(self, x: jax.Array) -> jax.Array:
        return gather(self.input_quantizer(x), self.incoming, 0).sum(2) * 2.0**-self.shift

    def cost(self) -> resources.Sum:
        signal = self.input_quantizer.signal()
        incoming = np.asarray(self.incoming)
        formats = (jax.numpy.broadcast_to(v, signal.shape)[None] for v in signal.format)
        moved = Format(*(gather(v, incoming, 0)[0] for v in formats))
        return resources.Sum(signal._replace(format=moved, shape=(*incoming.shape, signal.shape[-1])), (1,))

    def describe(self, x: Symbol) -> Symbol:
        name = x.graph.name_of(self)
        x = gather(self.input_quantizer.describe(x, f"{name}_input"), self.incoming, 0)
        return x.graph.apply("sum", (x,), self.output_shape, name=name, axes=(1,), shift=self.shift)


class InteractionNetwork(Module):
    r"""Nodes that learn from their neighbours: :math:`y_n = \phi_O(x_n, \sum_{e \to n} \phi_R(x_n, x_{sender(e)}))`.

    Args:
      nodes, features: shape of a row.
      edge_units: neurons of each layer of :math:`\phi_R`, the perceptron of the edges; all edges share its weights.
      node_units: of :math:`\phi_O`, that of the nodes; the last number is that of the features of the result.
      edges: (sender, receiver) of each; by default those of `all_pairs`.
      batch_norm: of each layer, or None; quantizers and granularities: of each layer; see `AbstractLinear`.

    Each layer has a relu. The parts, each with its cost: `edge_0`, ... and `node_0`, ... (`Dense`), `effect` (`Aggregate`).
    Source: Battaglia et al., arXiv:1612.00222; of jets: Moreno et al. (JEDI-net), arXiv:1908.05318.

    >>> layer = InteractionNetwork(4, 3, edge_units=(5, 2), node_units=(6,), rngs=nnx.Rngs(0))
    >>> layer(jax.numpy.ones((8, 4, 3))).shape
    (8, 4, 6)
    """

    def __init__(
        self,
        nodes: int,
        features: int,
        *,
        edge_units: Sequence[int],
        node_units: Sequence[int],
        rngs: nnx.Rngs,
        edges: Edges | None = None,
        batch_norm: BatchNorm | None = None,
        input_quantizer: AbstractQuantizer = ACTIVATION,
        kernel_quantizer: AbstractQuantizer = WEIGHT,
        bias_quantizer: AbstractQuantizer = WEIGHT,
        input_granularity: Granularity = "element",
        kernel_granularity: Granularity = "element",
    ):
        edges = tuple(all_pairs(nodes) if edges is None else edges)
        if not edges or not edge_units or not node_units or not all(0 <= n < nodes for pair in edges for n in pair):
            raise ValueError(
                f"InteractionNetwork: edges are {edges[:4]}, edge_units {tuple(edge_units)}, node_units {tuple(node_units)}; "
                f"at least one of each, and nodes 0 .. {nodes - 1}, are needed"
            )
        activations: dict[str, Any] = {"input_quantizer": input_quantizer, "input_granularity": input_granularity}
        weights = {"kernel_quantizer": kernel_quantizer, "bias_quantizer": bias_quantizer, "kernel_granularity": kernel_granularity}

        settings: dict[str, Any] = {"rngs": rngs, "activation": "relu", "batch_norm": batch_norm} | activations | weights

        def perceptron(count: int, *sizes: int) -> list[Dense]:
            return [Dense(n, m, input_shape=(count, n), **settings) for n, m in itertools.pairwise(sizes)]

        self.senders, self.receivers = (tuple(int(pair[n]) for pair in edges) for n in range(2))
        self.input_quantizer = Quantize((nodes, features), **{name[6:]: value for name, value in activations.items()})
        self.edge = nnx.List(perceptron(len(edges), 2 * features, *edge_units))
        self.effect = Aggregate(self.receivers, nodes, edge_units[-1], **activations)
        self.node = nnx.List(perceptron(nodes, features + edge_units[-1], *node_units))

    def __call__(self, x: Value) -> Value:
        x = self.input_quantizer(x)
        effect = concatenate([gather(x, self.receivers, 0), gather(x, self.senders, 0)])
        for layer in self.edge:
            effect = layer(effect)
        y = concatenate([x, self.effect(effect)])
        for layer in self.node:
            y = layer(y)
        return y
