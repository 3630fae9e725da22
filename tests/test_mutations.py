"""Do the tests see a fault? Each is planted in a copy of the package, and the test named beside it must fail. Table: tests/README.md."""

from pathlib import Path
from typing import NamedTuple

import pytest

README = Path(__file__).with_name("README.md").read_text()


class Mutation(NamedTuple):
    fault: str
    file: str
    right: str
    wrong: str
    caught_by: str


MUTATIONS = [
    Mutation(
        "powers of two by exp2",
        "fixed_point.py",
        "return lax.bitcast_convert_type(e << fraction, n.dtype)",
        "return jnp.exp2(n)",
        "test_fixed_point.py::test_pow2_and_exponent_are_exact",
    ),
    Mutation(
        "ln2 missing in dq/df",
        "fixed_point.py",
        "g_f = LN2 * error * g",
        "g_f = error * g",
        "test_fixed_point.py::test_gradients_follow_the_formulas",
    ),
    Mutation(
        "RND as floor(v + 0.5)",
        "fixed_point.py",
        "return down + (v - down >= 0.5).astype(v.dtype)",
        "return jnp.floor(v + 0.5)",
        "test_proof.py::test_every_format_is_exact",
    ),
    Mutation(
        "RND_CONV as half up",
        "fixed_point.py",
        'if rounding == "RND_CONV":\n        return jnp.round(v)',
        'if rounding == "RND_CONV":\n        return jnp.floor(v) + (v - jnp.floor(v) >= 0.5).astype(v.dtype)',
        "test_proof.py::test_every_format_is_exact",
    ),
    Mutation(
        "TRN toward zero",
        "fixed_point.py",
        'if rounding == "TRN":\n        return down',
        'if rounding == "TRN":\n        return jnp.trunc(v)',
        "test_proof.py::test_every_format_is_exact",
    ),
    Mutation(
        "least value of SAT_SYM that of SAT",
        "fixed_point.py",
        'return -k * (high if overflow == "SAT_SYM" else top), high',
        "return -k * top, high",
        "test_proof.py::test_every_format_is_exact",
    ),
    Mutation(
        "formats of no bit are not 0",
        "fixed_point.py",
        "return jnp.where(bits <= 0,",
        "return jnp.where(bits < 0,",
        "test_fixed_point.py::test_formats_without_bits_are_zero",
    ),
    Mutation(
        "dq/dx = 1 where saturated",
        "fixed_point.py",
        "return jnp.where(above | below, zero, g),",
        "return g,",
        "test_fixed_point.py::test_gradients_follow_the_formulas",
    ),
    Mutation(
        "gradients of a shared width averaged, not summed",
        "fixed_point.py",
        "return jnp.sum(g, axis=axes, keepdims=True)",
        "return jnp.mean(g, axis=axes, keepdims=True)",
        "test_fixed_point.py::test_gradients_of_shared_widths_are_sums_over_the_group",
    ),
    Mutation(
        "S_RND rounds up too often",
        "fixed_point.py",
        "jax.random.uniform(key, v.shape, v.dtype) < v - down",
        "jax.random.uniform(key, v.shape, v.dtype) * 0.9 < v - down",
        "test_proof.py::test_stochastic_rounding_is_unbiased",
    ),
    Mutation(
        "widths as Python numbers: a trace for each",
        "fixed_point.py",
        "*(jnp.asarray(w).astype(x.dtype) for w in widths)",
        "*(jnp.asarray(float(w)).astype(x.dtype) for w in widths)",
        "test_proof.py::test_one_trace_whatever_the_widths",
    ),
    Mutation(
        "ranges of the greatest value, not the greatest magnitude",
        "ranges.py",
        "bits = fixed_point.exponent(jnp.maximum(-low, high))",
        "bits = fixed_point.exponent(high)",
        "quantizers/test_contract.py::test_observed_ranges_hold_the_data",
    ),
    Mutation(
        "a tie of PowerOfTwo to the smaller power",
        "quantizers/_base.py",
        "magnitude >= 1.5 * fixed_point.pow2(below)",
        "magnitude > 1.5 * fixed_point.pow2(below)",
        "quantizers/test_levels.py::test_power_of_two_is_the_nearest_level",
    ),
    Mutation(
        "Minifloat without subnormal numbers",
        "quantizers/minifloat.py",
        "exponent = jnp.clip(fixed_point.exponent(x) - 1.0, c + 1.0 - span, c + span - 1.0)",
        "exponent = jnp.minimum(fixed_point.exponent(x) - 1.0, c + span - 1.0)",
        "quantizers/test_levels.py::test_minifloat_is_the_nearest_level",
    ),
    Mutation(
        "NaN hidden by Binary",
        "quantizers/binary.py",
        "jnp.where(x < 0, -level, x))",
        "-level)",
        "quantizers/test_contract.py::test_not_a_number_stays_and_infinity_saturates",
    ),
    Mutation(
        "sign bit counted for WRAP",
        "resources/operations.py",
        'self.overflow == "SAT" if definition',
        'self.overflow != "SAT_SYM" if definition',
        "resources/test_ebops.py::test_the_sign_counts_for_sat_only",
    ),
    Mutation(
        "penalty gradient scaled by 1/group, not 1/sqrt(group)",
        "resources/operations.py",
        "width / group**0.5 + lax.stop_gradient(width - width / group**0.5)",
        "width / group + lax.stop_gradient(width - width / group)",
        "resources/test_ebops.py::test_normalized_gradient_changes_no_value",
    ),
    Mutation(
        "weights frozen without their own range",
        "layers/quantize.py",
        "return FrozenWeight(self.quantizer.quantize(x, self.params, ranges=seen), fmt",
        "return FrozenWeight(self.quantizer.quantize(x, self.params), fmt",
        "layers/test_contract.py::test_hardware_gives_the_same_words_at_the_same_cost",
    ),
    Mutation(
        "the scale of PowerOfTwo learns nothing below its smallest power",
        "quantizers/power_of_two.py",
        "q - x, 0.0))",
        "0.0, 0.0))",
        "quantizers/test_levels.py::test_gradients_follow_the_formulas",
    ),
    Mutation(
        "ln2 missing in dE/de of Minifloat",
        "quantizers/minifloat.py",
        "fixed_point.LN2 * value * e)",
        "value * e)",
        "quantizers/test_levels.py::test_gradients_follow_the_formulas",
    ),
    Mutation(
        "penalty gradient not scaled where each value has a format of its own",
        "resources/operations.py",
        "/ math.prod(f.shape) if self.sharing is None else self.sharing",
        "/ math.prod(f.shape)",
        "resources/test_ebops.py::test_normalized_gradient_of_formats_of_each_value",
    ),
    Mutation(
        "batch norm of HGQ2's einsum layers folded without its mean",
        "interop/hgq2_layers.py",
        "offset = (-mean * scale)",
        "offset = (0 * scale)",
        "interop/test_hgq2.py::test_every_weight_and_format",
    ),
    Mutation(
        "a convolution padded after instead of before",
        "description/operations/windows.py",
        "- self.padding[axis][0]",
        "- self.padding[axis][1]",
        "description/test_operations.py",
    ),
    Mutation(
        "a product's interval from two of its four corners",
        "description/operations/merge.py",
        "for x in (a.low, a.high) for y in (b.low, b.high)]",
        "for x, y in ((a.low, b.low), (a.high, b.high))]",
        "description/test_operations.py",
    ),
    Mutation(
        "a contraction's interval from two of its four corners",
        "description/operations/contract.py",
        "for x in ends[0] for y in ends[1]]",
        "for x, y in zip(*ends, strict=True)]",
        "description/test_operations.py::test_contract",
    ),
    Mutation(
        "the grid of a contraction from terms that are always 0",
        "description/operations/contract.py",
        "both = alive[0][..., None] & alive[1][:, None]",
        "both = (alive[0][..., None] | True) & (alive[1][:, None] | True)",
        "description/test_operations.py::test_the_grid_of_a_contraction_is_exact",
    ),
    Mutation(
        "tables of HGQ-LUT without the root of the number of inputs",
        "interop/hgq2_tables.py",
        "return scale / math.sqrt(n_in), offset / math.sqrt(n_in)",
        "return scale, offset",
        "interop/test_families.py::test_every_word_of_every_layer",
    ),
    Mutation(
        "an inverse of a bit of a table built again",
        "resources/content.py",
        "if function in built or inverse in built:",
        "if function in built:",
        "resources/test_content.py::test_small_keys_are_a_function_for_each_bit_that_is_one",
    ),
    Mutation(
        "entries of tables looked up from zero, not from the least key",
        "layers/lut_dense.py",
        "(start[:-1].reshape(self.full) - low)[None]",
        "start[:-1].reshape(self.full)[None]",
        "layers/test_lut_dense.py::test_keys_with_a_sign_are_looked_up_from_the_least_one",
    ),
    Mutation(
        "the gate's second project has the weights of the first",
        "export/hls4ml/compiled.py",
        '(folder / path.name).write_text(", ".join(turned))',
        '(folder / path.name).write_text(", ".join(values))',
        "export/test_beside.py::test_weights_outside_the_namespace_are_found",
    ),
    Mutation(
        "two bits for one that wraps",
        "export/hls4ml/ac_types.py",
        "if np.any((op.bits == 1) & (",
        "if np.all((op.bits != 1) & (",
        "export/test_other_backends.py::test_elements_of_one_bit",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.fault)
def test_a_planted_fault_is_caught(mutation, package_copy):
    package_copy.replace(f"hgqjax/{mutation.file}", mutation.right, mutation.wrong)
    run = package_copy.pytest("-x", "--hypothesis-profile", "first failure", f"tests/{mutation.caught_by}")  # shrinking takes minutes
    assert run.returncode == 1 and "failed" in run.stdout, run.stdout[-2000:] + run.stderr[-2000:]


def test_the_table_of_the_readme_is_this_one():
    rows = [f"| {m.fault} | `{m.file}` | `{m.caught_by}` |" for m in MUTATIONS]
    assert [line for line in README.splitlines() if line in rows] == rows


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.fault)
def test_a_fault_has_one_place_and_a_test_that_exists(mutation):
    here = Path(__file__).parent
    assert (here.parent / "hgqjax" / mutation.file).read_text().count(mutation.right) == 1
    file, _, test = mutation.caught_by.partition("::")
    assert not test or f"def {test}(" in (here / file).read_text()
