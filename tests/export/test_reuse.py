"""Reuse factors and the strategy resource."""

import pytest
from hls4ml_networks import Network, verified

from hgqjax import cli
from hgqjax.export.gate import ExportError
from hgqjax.export.hls4ml import to_hls4ml
from hgqjax.export.hls4ml.reuse import check_reuse_factors, legal_factors


def mlp(shared=False, seed=1, sizes=(6, 3), inputs=8):
    net = Network((inputs,), shared, seed)
    net.quantize(net.relu(net.dense(net.last, sizes[0], name="first")))
    net.dense(net.last, sizes[1], name="second")
    return net.model()


def cnn(shared):
    net = Network((5, 5, 2), shared, seed=1)
    net.quantize(net.relu(net.conv(net.last, 3, (3, 3), name="window")))
    net.dense(net.reshape(net.last), 3, name="second")
    return net.model()


def test_legal_factors_are_those_of_hls4ml():
    from hls4ml.backends import get_backend

    backend = get_backend("Vitis")
    for n_in, n_out in ((1, 1), (16, 64), (64, 5), (7, 3), (12, 18)):
        assert legal_factors(n_in, n_out, "resource") == backend.get_valid_reuse_factors(n_in, n_out)
    assert legal_factors(3, 4, "latency") == list(range(1, 13))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reuse_factor": -2}, "reuse_factor is -2; a whole number of at least 1 is needed"),
        ({"reuse_factors": {"second": 0}}, "reuse_factor of layer 'second' is 0; a whole number"),
        (
            {"reuse_factor": 3000},
            "of layer 'first' is 3000, which a layer of 16 x 64 weights cannot have with strategy latency; nearest: 1024",
        ),
        ({"strategy": "resource", "reuse_factor": 5}, "'first' is 5, which a layer of 16 x 64 weights .* resource; nearest: 4 and 8"),
        ({"strategy": "resource", "reuse_factors": {"second": 48}}, "'second' is 48, which a layer of 64 x 5 .* nearest: 32 and 64"),
        ({"reuse_factors": {"third": 2}}, "of layer 'third': there is no such layer with weights; there are first, second"),
    ],
)
def test_illegal_factors_are_refused(settings, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        to_hls4ml(mlp(sizes=(64, 5), inputs=16), tmp_path / "p", **settings)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("factor", [2.5, True, "2"])
def test_whole_numbers_alone(factor):
    with pytest.raises(ExportError, match=rf"^reuse_factor is {factor!r}; a whole number of at least 1 is needed$"):
        check_reuse_factors(factor, {}, "latency")


def test_layers_that_cannot_share_are_refused(tmp_path):
    net = Network((4, 2), seed=1)
    net.quantize(net.einsum(net.last, "tc,cd->td", {"d": 3}, name="turn"))
    net.conv(net.last, 3, (2,), groups=3, name="depth")
    with pytest.raises(ExportError, match="'turn' is 2, which a layer whose multipliers hls4ml does not share cannot have"):
        to_hls4ml(net.model(), tmp_path / "p", strategy="resource", reuse_factor=2)
    with pytest.raises(ExportError, match="'depth' is 2, which a layer whose multipliers"):
        to_hls4ml(net.model(), tmp_path / "p", strategy="resource", reuse_factors={"depth": 2})


def test_the_command(tmp_path, capsys):
    mlp().save(tmp_path / "m")
    command = ["export", str(tmp_path / "m"), "--strategy", "resource", "--no-verify", "--reuse-factor", "2"]
    assert cli.main([*command, "first=4"]) == 0
    text = (tmp_path / "m_hls4ml/firmware/parameters.h").read_text()
    assert [line.split()[-1] for line in text.splitlines() if " reuse_factor =" in line] == ["4;", "1;", "2;"]
    assert "strategy = nnet::resource" in text
    for words, message in (("2.5",), "reuse_factor is 2.5"), (("first=x",), "layer 'first' is x"), (("third=2",), "no such layer"):
        assert cli.main([*command[:5], "--output", str(tmp_path / "n"), "--reuse-factor", *words]) == 2
        assert message in capsys.readouterr().err
    assert cli.main([*command, "--backend", "verilog"]) == 2
    assert (
        "backend verilog has no strategy and no reuse_factor; Vitis and Vivado and VivadoAccelerator and Catapult and oneAPI have"
        in capsys.readouterr().err
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (mlp(), {"strategy": "resource", "reuse_factor": 2, "reuse_factors": {"first": 48}}),
        (mlp(), {"strategy": "latency", "reuse_factor": 5}),
        (mlp(), {"strategy": "resource", "backend": "Vivado", "reuse_factor": 1}),
        (mlp(shared=True), {"strategy": "resource", "reuse_factor": 2, "io_type": "io_stream"}),
        (cnn(shared=True), {"strategy": "resource", "reuse_factor": 9, "io_type": "io_stream", "reuse_factors": {"second": 3}}),
        (cnn(shared=False), {"strategy": "resource", "reuse_factor": 3}),
    ],
    ids=["by layer", "latency", "Vivado", "stream", "convolution in a stream", "convolution"],
)
def test_every_word_with_reuse(model, settings, tmp_path):
    verified(model, tmp_path / "p", min_rows=1000, **settings)
