"""What the loop asks of an improvement: options, refusals, the file, and the same again."""

import pytest
import torch
from conftest import TinyModel
from tiny_flows import DATA, assert_same, drawn, evaluation, everything, synthesis, trained

from sc_loops import Samples, schema
from sc_loops.components import FAMILIES
from sc_loops.data.files import read_metadata, read_tensors
from sc_loops.errors import InvalidValue, UsageError
from sc_loops.improving.auxiliary import fine_tuned
from sc_loops.improving.improvement import Improvement
from sc_loops.improving.neon import Neon
from sc_loops.improving.sims import SIMS
from sc_loops.models.gaussian import Gaussian

SMALL = {"samples": 60, "steps": 6, "batch_size": 20}
KINDS = pytest.mark.parametrize("kind", [SIMS, Neon])


def prepared(kind, path, model=None, **options):
    """An improvement that was prepared for a small flow, the flow, and the row."""
    chosen = {k: options.pop(k) for k in ("seed", "generation", "chunk_size", "conditional") if k in options}
    model = trained() if model is None else model
    improvement = kind(DATA, **{**SMALL, "omega": 0.5, **options})
    return improvement, model, improvement.prepare(model, path, evaluation(), synthesis(**chosen))


@KINDS
def test_a_file_that_is_there_is_read_and_gives_the_same(kind, tmp_path, monkeypatch):
    path = tmp_path / "made" / "0001.safetensors"
    searching = {"omega": None, "omegas": (0.5, 1.0), "search_samples": 30}
    first, model, row = prepared(kind, path, **searching)
    with first.applied(model):
        samples, digest = drawn(model), model.weights_digest()
    content = path.read_bytes()
    again, other, second_row = prepared(
        kind, path.with_name("fresh"), omega=None, omegas=(0.5, 1.0), search_samples=30
    )
    assert path.with_name("fresh").read_bytes() == content  # made again, it is the same
    monkeypatch.setattr("sc_loops.improving.improvement.fine_tuned", None)  # cannot be called
    resumed, other, resumed_row = prepared(kind, path, **searching)
    assert row == second_row == resumed_row
    assert first.omega == again.omega == resumed.omega
    with resumed.applied(other):
        assert torch.equal(drawn(other), samples)
        assert other.weights_digest() == digest


@KINDS
def test_of_other_weights_or_options_or_damaged_it_is_made_anew(kind, tmp_path):
    path = tmp_path / "0001.safetensors"
    made = prepared(kind, path)[0]._auxiliary
    changes = [
        {"steps": 7},
        {"samples": 61},
        {"learning_rate": 0.5},
        {"seed": 4},
        {"generation": 2},
        {"chunk_size": 30},
    ]
    for change in [*changes, {"chunk_size": 30}]:
        other = prepared(kind, path, **change)[0]._auxiliary
        assert any(not torch.equal(other[name], tensor) for name, tensor in made.items()), change
    moved = trained()
    moved._average.shadow[0] += 0.5
    other = prepared(kind, path, model=moved)[0]._auxiliary
    assert any(not torch.equal(other[name], tensor) for name, tensor in made.items())
    for damage in (lambda data: data[:-9], lambda data: data[:-9] + b"\0" + data[-8:]):
        prepared(kind, path)
        path.write_bytes(damage(path.read_bytes()))
        assert_same(prepared(kind, path)[0]._auxiliary, made)
    prepared(kind, path, omega=0.7)
    assert_same(read_tensors(path), made)  # ω alone changes no auxiliary
    assert '"improvement/omega": 0.7' in read_metadata(path)["row"]


@KINDS
def test_preparing_leaves_the_model_and_sampling_it_as_they_were(kind, tmp_path):
    model = trained()
    model.loss(DATA.train).backward()
    before, samples, digest = everything(model), drawn(model), model.weights_digest()
    improvement, _, _ = prepared(kind, tmp_path / "a", model=model, omega=None, omegas=(1.0,), search_samples=20)
    with improvement.applied(model):
        drawn(model)
    assert_same(everything(model), before)
    assert torch.equal(drawn(model), samples)
    assert model.weights_digest() == digest
    assert all(m.training for m in model.modules())


@KINDS
def test_the_auxiliary_is_fine_tuned_on_the_model_s_own_samples(kind, tmp_path):
    model = trained(network={"class_conditional": True})
    improvement, _, row = prepared(kind, tmp_path / "a", model=model, conditional=True)
    with model.averaged():
        items, _ = improvement.self_synthesised(model, synthesis(conditional=True))
    assert len(items) == 60
    assert set(items.condition.tolist()) == {0, 1}
    state, loss = fine_tuned(model, items, improvement._training, 20, synthesis())
    assert_same(improvement._auxiliary, state)
    assert row == {"improvement/omega": 0.5, "improvement/loss": loss, "improvement/items_seen": 120}


@KINDS
def test_autocast_does_not_keep_what_weights_were(kind, tmp_path):
    # All in one context, as the loop does it, against each in one of its own.
    def autocast():
        return torch.autocast("cpu", dtype=torch.bfloat16)

    with autocast():
        together, model, row = prepared(kind, tmp_path / "a", omega=None, omegas=(3.0,), search_samples=20)
        with together.extrapolated(model, together._auxiliary, 3.0):
            samples = drawn(model)
    curve = {}
    for omega in (0.0, 3.0):
        with together._at(model, together._auxiliary, omega), model.averaged(), autocast():
            x = next(synthesis().chunks(model, 20, "search")).x
        found = evaluation().metrics[0].observe(Samples(x.float(), None, {"index": torch.arange(20)}))
        curve[omega] = evaluation().metrics[0].summarise([found])["wasserstein_2"]
    assert [row[f"improvement/search/{omega:g}"] for omega in curve] == pytest.approx(list(curve.values()))
    with together.extrapolated(model, together._auxiliary, 3.0), autocast():
        assert torch.equal(drawn(model), samples)


def test_sims_and_neon_share_the_auxiliary(tmp_path):
    first, second = (prepared(kind, tmp_path / kind.__name__)[0]._auxiliary for kind in (SIMS, Neon))
    assert_same(first, second)


def test_passes_are_over_the_samples(tmp_path):
    row = prepared(Neon, tmp_path / "a", steps=None, passes=2)[2]
    assert row["improvement/items_seen"] == 120


@KINDS
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"samples": 0}, "samples"),
        ({"steps": None}, "steps"),
        ({"passes": 1.0}, "steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"omega": -1.5}, "omega"),
        ({"omega": 21.0}, "omega"),
        ({"omegas": ()}, "omegas"),
        ({"omegas": (0.5, 30.0)}, "omegas"),
        ({"search_samples": 1}, "search_samples"),
    ],
)
def test_impossible_options_are_refused(kind, options, match):
    with pytest.raises(InvalidValue, match=match):
        kind(DATA, **{**SMALL, **options})


@KINDS
def test_models_without_an_auxiliary_are_refused(kind):
    improvement = kind(DATA, **SMALL)
    with pytest.raises(InvalidValue, match="no auxiliary"):
        improvement.check(Gaussian(DATA), evaluation())
    with pytest.raises(InvalidValue, match="weights to train"):
        improvement.check(trained().requires_grad_(False), evaluation())
    improvement.check(trained(), evaluation())


def test_sims_needs_a_network_and_neon_does_not():
    Neon(DATA, **SMALL).check(TinyModel(), evaluation())
    with pytest.raises(InvalidValue, match="neon"):
        SIMS(DATA, **SMALL).check(TinyModel(), evaluation())


def test_a_search_needs_something_to_measure():
    nothing = evaluation()
    nothing.metrics = []
    with pytest.raises(InvalidValue, match="omega"):
        Neon(DATA, **SMALL).check(trained(), nothing)
    Neon(DATA, **SMALL, omega=1.0).check(trained(), nothing)
    with pytest.raises(InvalidValue, match="search_metric"):
        Neon(DATA, **SMALL, search_metric="fid").check_search(evaluation())
    Neon(DATA, **SMALL, search_metric="fid", omega=1.0).check_search(evaluation())  # there is no search


def test_configs_name_them():
    def settings(*, improvement: Improvement):
        return improvement

    assert set(FAMILIES[Improvement]) == {"sims", "neon"}
    for name, kind in (("sims", SIMS), ("neon", Neon)):
        resolved = schema.resolve(settings, {"improvement": {"name": name, "samples": 10, "passes": 1, "omega": 1}})
        assert resolved["improvement"]["omegas"] == [0.25, 0.5, 1.0, 1.5, 2.0, 3.0]
        built = schema.build(settings, resolved, {"data": DATA})
        assert type(built) is kind
        assert built.omega == 1.0
    with pytest.raises(UsageError, match="did you mean 'omega'"):
        schema.resolve(settings, {"improvement": {"name": "neon", "samples": 10, "passes": 1, "omga": 1}})
    shares = {"name": "sims", "samples": 10, "passes": 1, "shares": [0.5, 0.6], "omega": 1}
    with pytest.raises(UsageError, match=r"improvement\.shares"):
        schema.build(settings, schema.resolve(settings, {"improvement": shares}), {"data": DATA})
