"""Spaces: errors, the lattice, and the ways between params, units and levels."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyppo import Choice, Integer, Ordinal, Real, Space, SpaceError

finite = st.floats(-1e12, 1e12, allow_nan=False)


@st.composite
def parameters(draw):
    kind = draw(st.sampled_from(["real", "log", "integer", "logint", "choice", "ordinal"]))
    if kind == "real":
        low, high = sorted((draw(finite), draw(finite)))
        return Real(low, high)
    if kind == "log":
        low, high = sorted((draw(st.floats(1e-12, 1e12)), draw(st.floats(1e-12, 1e12))))
        return Real(low, high, log=True)
    if kind == "integer":
        low = draw(st.integers(-1000, 1000))
        return Integer(low, low + draw(st.integers(0, 2000)), step=draw(st.integers(1, 7)))
    if kind == "logint":
        low = draw(st.integers(1, 100))
        return Integer(low, low + draw(st.integers(0, 2000)), step=draw(st.integers(1, 3)), log=True)
    values = draw(st.lists(st.one_of(st.integers(-5, 5), st.text(max_size=3), st.none()), min_size=1, unique=True))
    return Choice(values) if kind == "choice" else Ordinal(values)


@pytest.fixture
def conditional():
    space = Space(
        layers=Integer(1, 3),
        drop=Choice([False, True]),
        rate=Real(0, 0.5),
        u2=Integer(8, 10),
        a3=Choice(["x", "y", "z"]),
    )
    return space.inactive_if(
        {"a3": {"layers": [1, 2]}, "u2": {"layers": [1]}, "rate": {"drop": [False], "layers": [1]}}, {"rate": 0.25}
    )


spaces = st.lists(parameters(), min_size=1, max_size=6).map(lambda ps: Space({f"p{i}": p for i, p in enumerate(ps)}))


@given(spaces, st.integers(0, 2**32 - 1))
def test_round_trips(space, seed):
    unit = space.spread(np.random.default_rng(seed).random((20, space.dimension)))
    assert np.array_equal(space.snap(unit), unit)
    assert np.array_equal(space.unit_of(space.level_of(unit)), unit)
    for row in unit:
        assert np.array_equal(space.encode(space.decode(row)), row)
    assert Space.from_json(space.to_json()) == space


@given(parameters())
def test_both_bounds_are_reached(parameter):
    space = Space(p=parameter)
    ends = [space.decode([0.0])["p"], space.decode([1.0])["p"]]
    assert ends == [parameter.value(0), parameter.value(parameter.levels - 1)]
    if isinstance(parameter, Real):
        assert ends == [parameter.low, parameter.high]
    ends = space.level_of(space.spread(np.array([[0.0], [np.nextafter(1.0, 0.0)]])))
    assert ends.ravel().tolist() == [0, parameter.levels - 1]


@pytest.mark.parametrize(
    "parameter", [Integer(1, 7), Integer(2, 20, step=3), Choice(list("abcd")), Ordinal([1, 2, 4, 8])]
)
def test_every_level_has_equal_mass(parameter):
    uniform = (np.arange(8400) + 0.5) / 8400
    counts = np.bincount(parameter.spread(uniform), minlength=parameter.levels)
    assert counts.max() - counts.min() <= 1


def test_log_integer_mass_is_even_in_the_logarithm():
    counts = np.bincount(Integer(1, 1000, log=True).spread((np.arange(30000) + 0.5) / 30000), minlength=1000)
    decades = [counts[0:9].sum(), counts[9:99].sum(), counts[99:999].sum()]
    assert max(decades) / min(decades) < 1.35  # the first decade owns the stretch below 1 as well
    assert counts.min() > 0


def test_native_types():
    space = Space(n=Integer(1, 9), x=Real(0, 1), c=Choice(["a", True, None, 2]))
    params = space.decode([0.5, 0.25, 1 / 3])
    assert [type(v) for v in params.values()] == [int, float, bool]
    native = space.native({"n": np.int64(3), "x": np.float32(0.5), "c": np.int64(2)})
    assert native == {"n": 3, "x": 0.5, "c": 2}
    assert [type(v) for v in native.values()] == [int, float, int]


def test_true_is_not_one():
    choice = Choice([1, True, 1.0])
    assert [choice.index(v) for v in (1, True, 1.0)] == [0, 1, 2]
    with pytest.raises(SpaceError, match="expected one of"):
        Choice([1, 2]).index(True)


def test_decoded_reals_are_short():
    space = Space(lr=Real(1e-4, 1e-1, log=True), p=Real(0, 0.5))
    assert space.decode(space.encode({"lr": 0.003, "p": 0.1})) == {"lr": 0.003, "p": 0.1}


def test_size():
    assert Space(a=Integer(1, 3), b=Choice(["x", "y"])).size == 6
    assert Space(a=Integer(1, 3), x=Real(0, 1)).size is None
    assert Space(a=Integer(1, 1), x=Real(2, 2)).size == 1


def test_features_make_any_change_of_choice_a_distance_of_one():
    space = Space(c=Choice(list("abc")), b=Choice([False, True]), o=Ordinal([1, 2, 3]), x=Real(0, 1))
    assert space.owner.tolist() == [0, 0, 0, 1, 2, 3]
    points = [{"c": c, "b": b, "o": 1, "x": 0.0} for c, b in [("a", False), ("b", False), ("c", False), ("a", True)]]
    f = space.features(np.array([space.encode(p) for p in points]))
    for i in range(1, 4):
        assert math.isclose(np.linalg.norm(f[i] - f[0]), 1.0)
    assert math.isclose(np.linalg.norm(f[1] - f[2]), 1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Real(1, 0), "low must not exceed high"),
        (lambda: Real(math.nan, 1), "finite"),
        (lambda: Real(0, math.inf), "finite"),
        (lambda: Real(0, 1, log=True), "log=True needs low > 0"),
        (lambda: Real("0", 1), "number"),
        (lambda: Real(-1e308, 1e308), "overflows"),
        (lambda: Integer(3, 2), "low must not exceed high"),
        (lambda: Integer(0.5, 2), "integer"),
        (lambda: Integer(0, 8, log=True), "log=True needs low > 0"),
        (lambda: Integer(1, 8, step=0), "step"),
        (lambda: Integer(True, 8), "integer"),
        (lambda: Choice([]), "at least one value"),
        (lambda: Choice("abc"), "expected a list"),
        (lambda: Choice(["a", "a"]), "must differ"),
        (lambda: Choice([math.nan]), "finite"),
        (lambda: Choice([object()]), "name the object by a string"),
        (lambda: Ordinal([1, 1]), "must differ"),
        (lambda: Space(), "at least one parameter"),
        (lambda: Space({"a": Real(0, 1)}, a=Real(0, 1)), "given twice"),
        (lambda: Space(a=3), "must be Integer, Real, Choice or Ordinal"),
        (lambda: Space({"": Real(0, 1)}), "non-empty string"),
    ],
)
def test_errors_of_construction(make, message):
    with pytest.raises(SpaceError, match=message):
        make()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n": 1}, r"missing \['x'\]"),
        ({"n": 1, "x": 0.5, "y": 0}, r"unknown \['y'\]"),
        ({"n": 9, "x": 0.5}, r"params\['n'\]: expected an integer in \[1, 4\], got 9"),
        ({"n": 1.5, "x": 0.5}, r"params\['n'\]"),
        ({"n": 1, "x": 2.0}, r"params\['x'\]: expected a number in \[0.0, 1.0\]"),
        ({"n": 1, "x": math.nan}, "finite"),
        ([1, 2], "expected a mapping"),
    ],
)
def test_errors_of_points(params, message):
    with pytest.raises(SpaceError, match=message):
        Space(n=Integer(1, 4), x=Real(0, 1)).encode(params)


def test_a_logarithmic_range_may_be_wider_than_the_largest_number():
    parameter = Real(1e-300, 1e300, log=True)
    values = [parameter.value(round(k / 8 * (parameter.levels - 1))) for k in range(9)]
    assert np.allclose(np.log10(values), np.linspace(-300, 300, 9))
    assert [parameter.index(parameter.value(k)) for k in (3, parameter.levels - 4)] == [3, parameter.levels - 4]


def test_difference_names_what_differs():
    a = Space(n=Integer(1, 4), x=Real(0, 1))
    assert a.difference(Space(n=Integer(1, 4), x=Real(0, 1))) == ""
    assert "n: " in a.difference(Space(n=Integer(1, 5), x=Real(0, 1)))
    assert "absent" in a.difference(Space(n=Integer(1, 4)))
    assert "order" in a.difference(Space(x=Real(0, 1), n=Integer(1, 4)))


def test_points_that_differ_in_inactive_parameters_are_one(conditional):
    one = {"layers": 1, "drop": True, "rate": 0.1, "u2": 9, "a3": "y"}
    same = {"layers": 1, "drop": True, "rate": 0.25, "u2": 8, "a3": "x"}
    assert conditional.native(one) == conditional.decode(conditional.encode(one)) == same
    assert conditional.inactive(one) == ("rate", "u2", "a3")
    unit = np.array([conditional.encode(one), conditional.encode(same)])
    flat = Space(conditional.parameters)
    raw = np.array([flat.encode(one), flat.encode(same)])
    assert len(set(conditional.keys(raw))) == 1
    assert len(set(flat.keys(raw))) == 2
    for found in (unit, conditional.snap(raw), conditional.features(raw)):
        np.testing.assert_array_equal(found[0], found[1])
    three = {"layers": 3, "drop": True, "rate": 0.1234567, "u2": 9, "a3": "y"}
    assert conditional.native(three) == three
    assert conditional.inactive(three) == ()


def test_a_space_with_inactive_parameters_counts_its_points():
    space = Space(a=Integer(1, 3), b=Integer(1, 4), c=Choice(["x", "y", "z"]))
    conditions = {"b": {"a": [1]}, "c": {"b": [1, 2]}}  # where b is inactive, its default decides on c
    for default, size in ((1, 1 + 2 * (2 + 2 * 3)), (4, 3 + 2 * (2 + 2 * 3))):
        some = space.inactive_if(conditions, {"b": default})
        level = np.stack(np.unravel_index(np.arange(some.combinations), (3, 4, 3)), axis=1)
        assert some.size == len(set(some.keys(some.unit_of(level)))) == size
        assert (some.combinations, space.size) == (36, 36)


def test_inactive_parameters_are_described(conditional):
    assert Space.from_json(conditional.to_json()) == conditional != Space(conditional.parameters)
    assert eval(repr(conditional)) == conditional
    assert not conditional.difference(Space(conditional.parameters))
    more = Space(conditional, batch=Ordinal([32, 64]))
    assert more.inactive({"layers": 1, "drop": True, "rate": 0.1, "u2": 9, "a3": "y", "batch": 64})
    assert more.names == (*conditional.names, "batch")


@pytest.mark.parametrize(
    ("conditions", "defaults", "words"),
    [
        (7, None, "expected mappings"),
        ({"c": {"a": [1]}}, None, "for some of"),
        ({"b": {"a": [1]}}, {"a": 1}, "defaults for some of those"),
        ({"a": {"b": [1]}}, None, "not one of the earlier"),
        ({"b": {"b": [1]}}, None, "not one of the earlier"),
        ({"b": [1]}, None, "values by the name"),
        ({"b": {"a": 1}}, None, "a list of values"),
        ({"b": {"a": [9]}}, None, "9"),
        ({"b": {"a": [1]}}, {"b": 9}, "9"),
    ],
)
def test_conditions_that_cannot_be_are_refused(conditions, defaults, words):
    with pytest.raises(SpaceError, match=words):
        Space(a=Integer(1, 3), b=Integer(1, 3)).inactive_if(conditions, defaults)
