# Kernels are written in Triton's language, which has no annotations and no starred tuples.
# mypy: ignore-errors
"""Memory accesses in PTX, for what Triton's own cost too much in a sweep of thousands of short steps.

Tiles: ``tl.load`` and ``tl.store`` take a layout of their own, and every change from it to that of the tensor cores and
back goes through shared memory, with two barriers. Each of a dozen loads a step is then waited for before the next one
begins. Loads in PTX take the layout that the arithmetic has, and are all under way together.
Rows of an even number of columns are read and written two neighbours at a time. Tiles of whole wavefronts, whose many
numbers a thread make the instructions for addresses tell, take it for certain that a layout of the tensor cores has
neighbours side by side; ``pairs.py`` reads the compiled code to make it so.

Counters: a barrier before and after every ``tl.atomic_add`` hands its result round; here every thread reads by itself.

The interpreter knows no PTX, and gets Triton's own.
"""

import triton
import triton.language as tl

from .interpreted import INTERPRETED

PTX = tl.constexpr(not INTERPRETED)

_LOAD = "{{ .reg .pred q; setp.ne.s32 q, $2, 0; mov.b{0} $0, 0; @q ld.global.b{0} $0, [$1]; }}"
_STORE = "{{ .reg .pred q; setp.ne.s32 q, $3, 0; @q st.global.b{0} [$1], $2; mov.b32 $0, 0; }}"

# Two numbers at a time. They are neighbours in every layout of the tensor cores; where a compiler has chosen another,
# they are taken one by one.
_PAIR = (
    "{{ .reg .pred q, r, both, one, other; .reg .b64 d; {registers} sub.s64 d, {second}, {first};"
    " setp.ne.s32 q, {mask}, 0; setp.ne.s32 r, {mask_of_second}, 0; setp.eq.and.s64 both, d, {bytes}, q;"
    " setp.ne.and.s64 one, d, {bytes}, q; setp.ne.and.s64 other, d, {bytes}, r; {access} }}"
)

# Instructions and their operands' kinds, by the bits of a number and how many numbers are taken at a time. The last
# operand of loads is named by none: they come after it.
_LOADS = {
    (16, 1): (_LOAD.format(16), "=&h,l,r,r"),
    (32, 1): (_LOAD.format(32), "=&r,l,r,r"),
    (64, 1): (_LOAD.format(64), "=&l,l,r,r"),
    (16, 2): (
        _PAIR.format(
            registers=".reg .b16 a, b;", first="$1", second="$2", mask="$3", mask_of_second="$4", bytes=2,
            access="mov.b32 $0, 0; mov.b32 {a, b}, $0; @one ld.global.b16 a, [$1]; @other ld.global.b16 b, [$2];"
            " mov.b32 $0, {a, b}; @both ld.global.b32 $0, [$1];",
        ),
        "=&r,l,l,r,r,r,r",
    ),
    (32, 2): (
        _PAIR.format(
            registers="", first="$2", second="$3", mask="$4", mask_of_second="$5", bytes=4,
            access="mov.b32 $0, 0; mov.b32 $1, 0; @both ld.global.v2.b32 {$0, $1}, [$2];"
            " @one ld.global.b32 $0, [$2]; @other ld.global.b32 $1, [$3];",
        ),
        "=&r,=&r,l,l,r,r,r,r",
    ),
}  # fmt: skip
_STORES = {
    (16, 1): (_STORE.format(16), "=r,l,h,r"),
    (32, 1): (_STORE.format(32), "=r,l,r,r"),
    (64, 1): (_STORE.format(64), "=r,l,l,r"),
    (16, 2): (
        _PAIR.format(
            registers=".reg .b16 a, b;", first="$2", second="$3", mask="$5", mask_of_second="$6", bytes=2,
            access="mov.b32 {a, b}, $4; @both st.global.b32 [$2], $4; @one st.global.b16 [$2], a;"
            " @other st.global.b16 [$3], b; mov.b32 $0, 0; mov.b32 $1, 0;",
        ),
        "=r,=r,l,l,r,r,r",
    ),
    (32, 2): (
        _PAIR.format(
            registers="", first="$2", second="$3", mask="$6", mask_of_second="$7", bytes=4,
            access="@both st.global.v2.b32 [$2], {$4, $5}; @one st.global.b32 [$2], $4;"
            " @other st.global.b32 [$3], $5; mov.b32 $0, 0; mov.b32 $1, 0;",
        ),
        "=r,=r,l,l,r,r,r,r",
    ),
}  # fmt: skip

# Likewise from the address of the row and the number of the column, for those who know that neighbours are side by side.
_PAIR_IN_ROW = "{{ .reg .pred q; .reg .b64 a; setp.ne.s32 q, {mask}, 0; mad.wide.s32 a, {column}, {bytes}, {row}; {access} }}"
_LOADS_IN_ROW = {
    16: (
        _PAIR_IN_ROW.format(
            mask="$5", column="$3", row="$1", bytes=2,
            access="mov.b32 $0, 0; @q ld.global.b32 $0, [a];",
        ),
        "=&r,l,l,r,r,r,r,r,r",
    ),
    32: (
        _PAIR_IN_ROW.format(
            mask="$6", column="$4", row="$2", bytes=4,
            access="mov.b32 $0, 0; mov.b32 $1, 0; @q ld.global.v2.b32 {$0, $1}, [a];",
        ),
        "=&r,=&r,l,l,r,r,r,r,r,r",
    ),
}  # fmt: skip
_STORES_IN_ROW = {
    16: (
        _PAIR_IN_ROW.format(
            mask="$7", column="$4", row="$2", bytes=2,
            access="@q st.global.b32 [a], $6; mov.b32 $0, 0; mov.b32 $1, 0;",
        ),
        "=r,=r,l,l,r,r,r,r,r",
    ),
    32: (
        _PAIR_IN_ROW.format(
            mask="$8", column="$4", row="$2", bytes=4,
            access="@q st.global.v2.b32 [a], {$6, $7}; mov.b32 $0, 0; mov.b32 $1, 0;",
        ),
        "=r,=r,l,l,r,r,r,r,r,r",
    ),
}  # fmt: skip

ACQUIRE = tl.constexpr("ld.acquire.gpu.global.b32 $0, [$1];")
RELEASE = tl.constexpr(
    "{ .reg .pred q; .reg .b32 r; mov.u32 r, %tid.x; setp.eq.u32 q, r, 0;"
    " @q red.release.gpu.global.add.u32 [$1], 1; mov.b32 $0, 0; }"
)


@triton.constexpr_function
def at_a_time(bits, columns):
    """How many numbers: two where rows have an even number of columns, so that all pairs are aligned and masked alike."""
    return 2 if bits < 64 and columns % 2 == 0 else 1


@triton.constexpr_function
def instructions(kind, bits, count):
    return (_LOADS if kind == "load" else _STORES)[bits, count]


@triton.constexpr_function
def instructions_in_row(kind, bits):
    return (_LOADS_IN_ROW if kind == "load" else _STORES_IN_ROW)[bits]


@triton.constexpr_function
def whole_number(bits):
    return {16: tl.int16, 32: tl.int32, 64: tl.int64}[bits]


@triton.jit
def load(p_row, o_column, mask, COLUMNS: tl.constexpr, CUT: tl.constexpr, after=0):
    """A tile out of rows of COLUMNS numbers, 0 where the mask is false; memory is aligned to two numbers.

    The compiler is told that it reads no memory: of several copies, in the layouts that it tries, it would otherwise
    keep all. What others store is read ``after`` a number is known, that which they were waited for with.
    """
    TYPE: tl.constexpr = p_row.dtype.element_ty
    BITS: tl.constexpr = TYPE.primitive_bitwidth
    if PTX:
        COUNT: tl.constexpr = at_a_time(BITS, COLUMNS)
        b_live = mask.to(tl.int32)
        if CUT.fronts and COUNT == 2:
            IN_ROW: tl.constexpr = instructions_in_row("load", BITS)
            b_bits = tl.inline_asm_elementwise(
                IN_ROW[0],
                IN_ROW[1],
                [p_row[:, None], o_column[None, :], b_live, after],
                whole_number(BITS).value,
                is_pure=True,
                pack=2,
            )
        else:
            CODE: tl.constexpr = instructions("load", BITS, COUNT)
            b_bits = tl.inline_asm_elementwise(
                CODE[0],
                CODE[1],
                [p_row[:, None] + o_column[None, :], b_live, after],
                whole_number(BITS).value,
                is_pure=True,
                pack=COUNT,
            )
        return b_bits.to(TYPE, bitcast=True)
    else:
        return tl.load(p_row[:, None] + o_column[None, :], mask=mask, other=0)


@triton.jit
def store(p_row, o_column, b_value, mask, COLUMNS: tl.constexpr, CUT: tl.constexpr):
    """Stores a tile where the mask is true, in the type that is stored there; otherwise like :func:`load`."""
    TYPE: tl.constexpr = p_row.dtype.element_ty
    BITS: tl.constexpr = TYPE.primitive_bitwidth
    if PTX:
        COUNT: tl.constexpr = at_a_time(BITS, COLUMNS)
        b = b_value.to(TYPE).to(whole_number(BITS), bitcast=True)
        if CUT.fronts and COUNT == 2:
            IN_ROW: tl.constexpr = instructions_in_row("store", BITS)
            tl.inline_asm_elementwise(
                IN_ROW[0],
                IN_ROW[1],
                [p_row[:, None], o_column[None, :], b, mask.to(tl.int32)],
                tl.int32,
                is_pure=False,
                pack=2,
            )
        else:
            CODE: tl.constexpr = instructions("store", BITS, COUNT)
            p = p_row[:, None] + o_column[None, :]
            tl.inline_asm_elementwise(
                CODE[0], CODE[1], [p, b, mask.to(tl.int32)], tl.int32, is_pure=False, pack=COUNT
            )
    else:
        tl.store(p_row[:, None] + o_column[None, :], b_value.to(TYPE), mask=mask)


@triton.jit
def acquire(p):
    """A counter, and with it all that was stored before whoever raised it released it."""
    if PTX:
        return tl.inline_asm_elementwise(ACQUIRE, "=r,l", [p], tl.int32, is_pure=False, pack=1)
    else:
        return tl.atomic_add(p, 0, sem="acquire", scope="gpu")


@triton.jit
def release(p):
    """Raises a counter by one, and makes all that the program has stored so far visible to those who acquire it."""
    tl.debug_barrier()
    if PTX:
        tl.inline_asm_elementwise(RELEASE, "=r,l", [p], tl.int32, is_pure=False, pack=1)
    else:
        tl.atomic_add(p, 1, sem="release", scope="gpu")
