"""Which nodes of a detector stay in float32, on graphs of names."""

from transformers_tcm.export.quantization import CONVOLUTIONS, LAST, _exact_nodes

# What each node takes: a stem that is read, two convolutions more, and a head of five for one map.
GRAPH: dict[str, list[str]] = {
    "pixels": [],
    "Conv stem": ["pixels"],
    "Relu stem": ["Conv stem"],
    "Conv 1": ["Relu stem"],
    "Conv 2": ["Conv 1"],
    "Mul score": ["Conv 2"],
    **{f"Conv head {step}": [f"Conv head {step - 1}" if step else "Conv 2", "Mul score"] for step in range(5)},
    "Sigmoid map": ["Conv head 4"],
}


def exact(graph: dict[str, list[str]], **outputs: str) -> set[str]:
    return _exact_nodes(outputs, name=str, kind=lambda node: node.split()[0], before=graph.__getitem__)


def test_the_last_convolutions_of_the_head_stay() -> None:
    assert LAST == 3
    last = {"Conv head 4", "Conv head 3", "Conv head 2"}
    assert exact(GRAPH, prob_map="Sigmoid map", score_map="Mul score") == last
    assert "Conv" in CONVOLUTIONS
    assert "Convert" not in CONVOLUTIONS


def test_all_that_is_read_stays() -> None:
    assert exact(GRAPH, features="Relu stem") == {"pixels", "Conv stem", "Relu stem"}
    assert exact(GRAPH, features="Relu stem", prob_map="Sigmoid map") > exact(GRAPH, prob_map="Sigmoid map")


def test_residual_networks_are_walked_through_once() -> None:
    """Each of 60 blocks can be gone around: a search along every path would never end."""
    graph = {"Add 0": []} | {f"Add {step}": [f"Add {step - 1}", f"Conv {step}"] for step in range(1, 61)}
    graph |= {f"Conv {step}": [f"Add {step - 1}"] for step in range(1, 61)}
    assert len(exact(graph, features="Add 60")) == len(graph)
    assert exact(graph, prob_map="Add 60") == {"Conv 60", "Conv 59", "Conv 58"}
