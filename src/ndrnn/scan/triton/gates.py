# Kernels are written in Triton's language, which has no annotations and no starred tuples.
# mypy: ignore-errors
# ruff: noqa: RUF005
"""The gate arithmetic of every cell, forward and backward, on tiles of (points, hidden units).

A cell computes in lanes: one pre-activation of H units each. A lane is a gate, except that the GRU has, after its
gates, one lane an axis for that axis' part of the candidate, because reset gates come between the parts.

``forward`` gets the pre-activations by lane and the states of the predecessors by axis (memories; for the GRU the
outputs), and gives the output, the state, and by lane what the backward pass wants (nothing for the plain RNN).
``backward`` gets the gradients of the output and of the state, and gives by lane those of the pre-activations and by
axis what goes straight into the gradient of that predecessor's state.

States that can grow without end saturate at ``MATH.largest_state``, where the gradient by them is 0. Gradients by
states, and their products with states, do at ``MATH.largest_gradient``; see ``ndrnn/saturation.py``.

Everything here is elementwise and in the precision of the states.
"""

import triton
import triton.language as tl


@triton.constexpr_function
def enters(lane, axis, gates, split):
    """Whether the product of an axis enters a lane; if split, the last gate's enter lanes of their own, one an axis."""
    return not split or lane < gates - 1 or lane == gates + axis


@triton.constexpr_function
def matrix_of(lane, axis, gates):
    """Number of the weight matrix (H, H) among those of all axes and gates."""
    return axis * gates + min(lane, gates - 1)


@triton.jit
def rounded_tanh(b_x):
    """In one instruction, 2^-11 off in relative terms: a quarter of what bfloat16 rounds away."""
    return tl.inline_asm_elementwise(
        "tanh.approx.f32 $0, $1;", "=r,r", [b_x], tl.float32, is_pure=True, pack=1
    )


@triton.jit
def sigmoid(b_x, MATH: tl.constexpr):
    if MATH.approximate:
        return 0.5 + 0.5 * rounded_tanh(0.5 * b_x)
    else:
        b_e = tl.exp(-tl.abs(b_x))  # never overflows
        return tl.where(b_x >= 0, 1.0, b_e) / (1.0 + b_e)


@triton.jit
def tanh(b_x, MATH: tl.constexpr):
    """To rounding in relative terms also near zero, where 1 - exp(-2x) cancels: there its [7/6] Pade approximant."""
    if MATH.approximate:
        return rounded_tanh(b_x)
    else:
        b_e = tl.exp(-2.0 * tl.abs(b_x))
        b_q = tl.minimum(b_x * b_x, 0.5)
        b_above = b_x * (135135.0 + b_q * (17325.0 + b_q * (378.0 + b_q)))
        b_below = 135135.0 + b_q * (62370.0 + b_q * (3150.0 + b_q * 28.0))
        near = tl.abs(b_x) < 0.625
        b_far = tl.where(b_x >= 0, 1.0 - b_e, b_e - 1.0)
        return tl.where(near, b_above, b_far) / tl.where(near, b_below, 1.0 + b_e)


@triton.jit
def softmax_with_zero(logits, COUNT: tl.constexpr, FIRST: tl.constexpr, MATH: tl.constexpr):
    """Shares of COUNT logits, from number FIRST of the tuple on, and of one more that is 0: (shares, its share)."""
    b_top = tl.zeros_like(logits[FIRST])
    for j in tl.static_range(COUNT):
        b_top = tl.maximum(b_top, logits[FIRST + j])
    b_rest = tl.exp(-b_top)
    b_sum = b_rest
    weights = ()
    for j in tl.static_range(COUNT):
        b_weight = tl.exp(logits[FIRST + j] - b_top)
        b_sum += b_weight
        weights = weights + (b_weight,)
    shares = ()
    if MATH.approximate:  # one division
        b_inverse = 1.0 / b_sum
        for j in tl.static_range(COUNT):
            shares = shares + (weights[j] * b_inverse,)
        return shares, b_rest * b_inverse
    else:
        for j in tl.static_range(COUNT):
            shares = shares + (weights[j] / b_sum,)
        return shares, b_rest / b_sum


@triton.jit
def mix(a, states, NDIM: tl.constexpr, FIRST: tl.constexpr, MATH: tl.constexpr):
    """The convex combination of the memories, whose last axis has the logit 0, and the shares of the others."""
    shares = ()
    b_old = states[NDIM - 1]
    if NDIM > 1:
        shares, b_last = softmax_with_zero(a, NDIM - 1, FIRST, MATH)
        b_old = b_last * b_old
        for k in tl.static_range(NDIM - 1):
            b_old += shares[k] * states[k]
    return b_old, shares


@triton.jit
def unmix(kept, states, NDIM: tl.constexpr, FIRST: tl.constexpr):
    """The mix again, from the shares kept, and the shares of all axes."""
    shares = ()
    b_last = tl.zeros_like(states[0]) + 1.0
    for k in tl.static_range(NDIM - 1):
        shares = shares + (kept[FIRST + k],)
        b_last -= kept[FIRST + k]
    shares = shares + (b_last,)
    b_old = b_last * states[NDIM - 1]
    for k in tl.static_range(NDIM - 1):
        b_old += shares[k] * states[k]
    return b_old, shares


@triton.jit
def mix_backward(b_d_old, b_old, shares, states, NDIM: tl.constexpr):
    """Given the gradient of the mix: those of its logits, and what goes into each memory."""
    deltas = ()
    carries = ()
    for k in tl.static_range(NDIM):
        if k < NDIM - 1:
            deltas = deltas + (b_d_old * shares[k] * (states[k] - b_old),)
        carries = carries + (b_d_old * shares[k],)
    return deltas, carries


@triton.jit
def limited(b_x, LIMIT: tl.constexpr):
    """Within [-LIMIT, LIMIT]; NaN stays NaN."""
    if b_x.dtype == tl.float64:
        return tl.where(b_x > LIMIT, LIMIT, tl.where(b_x < -LIMIT, -LIMIT, b_x))
    else:  # one or two instructions instead of four; Triton has none for float64
        return tl.clamp(b_x, -LIMIT, LIMIT, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def unless_saturated(b_state, b_x, LIMIT: tl.constexpr):
    return tl.where(tl.abs(b_state) >= LIMIT, 0.0, b_x)


@triton.jit
def rnn_forward(a, RELU: tl.constexpr, MATH: tl.constexpr):
    b_h = limited(tl.maximum(a[0], 0.0), MATH.largest_state) if RELU else tanh(a[0], MATH)
    return b_h, b_h, ()


@triton.jit
def rnn_backward(b_dh, b_h, RELU: tl.constexpr, MATH: tl.constexpr):
    b_delta = (
        unless_saturated(b_h, tl.where(b_h > 0, b_dh, 0.0), MATH.largest_state)
        if RELU
        else b_dh * (1.0 - b_h * b_h)
    )
    return (b_delta,), ()


@triton.jit
def lstm_forward(a, states, extra, NDIM: tl.constexpr, PEEPHOLES: tl.constexpr, MATH: tl.constexpr):
    b_i = a[0]
    if PEEPHOLES:
        b_sum = states[0]
        for k in tl.static_range(1, NDIM):
            b_sum += states[k]
        b_i += extra[0] * b_sum
    b_i = sigmoid(b_i, MATH)
    b_g = tanh(a[NDIM + 1], MATH)
    b_c = b_i * b_g
    kept = (b_i,)
    for k in tl.static_range(NDIM):
        b_f = a[1 + k]
        if PEEPHOLES:
            b_f += extra[1 + k] * states[k]
        b_f = sigmoid(b_f, MATH)
        b_c += b_f * states[k]
        kept = kept + (b_f,)
    b_c = limited(b_c, MATH.largest_state)
    b_o = a[NDIM + 2]
    if PEEPHOLES:
        b_o += extra[NDIM + 1] * b_c
    b_o = sigmoid(b_o, MATH)
    return b_o * tanh(b_c, MATH), b_c, kept + (b_g, b_o)


@triton.jit
def lstm_backward(
    b_dh, b_dc, kept, b_c, states, extra, NDIM: tl.constexpr, PEEPHOLES: tl.constexpr, MATH: tl.constexpr
):  # fmt: skip
    b_i = kept[0]
    b_g = kept[NDIM + 1]
    b_o = kept[NDIM + 2]
    b_squashed = tanh(b_c, MATH)
    b_do = b_dh * b_squashed * b_o * (1.0 - b_o)
    b_dc += b_dh * b_o * (1.0 - b_squashed * b_squashed)
    if PEEPHOLES:
        b_dc += b_do * extra[NDIM + 1]
    b_dc = unless_saturated(b_c, b_dc, MATH.largest_state)
    b_di = b_dc * b_g * b_i * (1.0 - b_i)
    deltas = (b_di,)
    carries = ()
    for k in tl.static_range(NDIM):
        b_f = kept[1 + k]
        b_df = limited(b_dc * states[k], MATH.largest_gradient) * b_f * (1.0 - b_f)
        b_carry = b_dc * b_f
        if PEEPHOLES:
            b_carry += b_di * extra[0] + b_df * extra[1 + k]
        deltas = deltas + (b_df,)
        carries = carries + (b_carry,)
    return deltas + (b_dc * b_i * (1.0 - b_g * b_g), b_do), carries


@triton.jit
def stable_forward(a, states, NDIM: tl.constexpr, MATH: tl.constexpr):
    b_i = sigmoid(a[0], MATH)
    b_f = sigmoid(a[1], MATH)
    b_g = tanh(a[NDIM + 1], MATH)
    b_o = sigmoid(a[NDIM + 2], MATH)
    b_old, shares = mix(a, states, NDIM, 2, MATH)
    b_c = b_i * b_g + b_f * b_old
    return b_o * tanh(b_c, MATH), b_c, (b_i, b_f) + shares + (b_g, b_o)


@triton.jit
def stable_backward(b_dh, b_dc, kept, b_c, states, NDIM: tl.constexpr, MATH: tl.constexpr):
    b_i = kept[0]
    b_f = kept[1]
    b_g = kept[NDIM + 1]
    b_o = kept[NDIM + 2]
    b_squashed = tanh(b_c, MATH)
    b_dc += b_dh * b_o * (1.0 - b_squashed * b_squashed)
    b_old, shares = unmix(kept, states, NDIM, 2)
    mixing, carries = mix_backward(b_dc * b_f, b_old, shares, states, NDIM)
    deltas = (b_dc * b_g * b_i * (1.0 - b_i), b_dc * b_old * b_f * (1.0 - b_f)) + mixing
    return deltas + (b_dc * b_i * (1.0 - b_g * b_g), b_dh * b_squashed * b_o * (1.0 - b_o)), carries


@triton.jit
def leaky_forward(a, states, NDIM: tl.constexpr, MATH: tl.constexpr):
    b_f = sigmoid(a[0], MATH)
    b_g = tanh(a[NDIM], MATH)
    b_o1 = sigmoid(a[NDIM + 1], MATH)
    b_o2 = sigmoid(a[NDIM + 2], MATH)
    b_old, shares = mix(a, states, NDIM, 1, MATH)
    b_c = (1.0 - b_f) * b_g + b_f * b_old
    return tanh(b_o1 * b_c + b_o2 * b_old, MATH), b_c, (b_f,) + shares + (b_g, b_o1, b_o2)


@triton.jit
def leaky_backward(b_dh, b_dc, kept, b_h, b_c, states, NDIM: tl.constexpr):
    b_f = kept[0]
    b_g = kept[NDIM]
    b_o1 = kept[NDIM + 1]
    b_o2 = kept[NDIM + 2]
    b_da = b_dh * (1.0 - b_h * b_h)
    b_dc += b_da * b_o1
    b_old, shares = unmix(kept, states, NDIM, 1)
    mixing, carries = mix_backward(b_dc * b_f + b_da * b_o2, b_old, shares, states, NDIM)
    deltas = (b_dc * (b_old - b_g) * b_f * (1.0 - b_f),) + mixing
    deltas = deltas + (b_dc * (1.0 - b_f) * (1.0 - b_g * b_g), b_da * b_c * b_o1 * (1.0 - b_o1))
    return deltas + (b_da * b_old * b_o2 * (1.0 - b_o2),), carries


@triton.jit
def spatial_forward(a, states, NDIM: tl.constexpr, MATH: tl.constexpr):
    b_i = sigmoid(a[0], MATH)
    b_g = tanh(a[NDIM + 1], MATH)
    b_o = sigmoid(a[NDIM + 2], MATH)
    b_c = b_g * b_i
    kept = (b_i,)
    for k in tl.static_range(NDIM):
        b_f = sigmoid(a[1 + k], MATH)
        b_c += b_f * states[k]
        kept = kept + (b_f,)
    b_c = limited(b_c, MATH.largest_state)
    return tanh(b_o * b_c, MATH), b_c, kept + (b_g, b_o)


@triton.jit
def spatial_backward(b_dh, b_dc, kept, b_h, b_c, states, NDIM: tl.constexpr, MATH: tl.constexpr):
    b_i = kept[0]
    b_g = kept[NDIM + 1]
    b_o = kept[NDIM + 2]
    b_da = b_dh * (1.0 - b_h * b_h)
    b_dc = unless_saturated(b_c, b_dc + b_da * b_o, MATH.largest_state)
    deltas = (b_dc * b_g * b_i * (1.0 - b_i),)
    carries = ()
    for k in tl.static_range(NDIM):
        b_f = kept[1 + k]
        deltas = deltas + (limited(b_dc * states[k], MATH.largest_gradient) * b_f * (1.0 - b_f),)
        carries = carries + (b_dc * b_f,)
    b_do = limited(b_da * b_c, MATH.largest_gradient) * b_o * (1.0 - b_o)
    return deltas + (b_dc * b_i * (1.0 - b_g * b_g), b_do), carries


@triton.jit
def gru_forward(a, states, NDIM: tl.constexpr, MATH: tl.constexpr):
    b_candidate = a[2 * NDIM]
    resets = ()
    parts = ()
    for k in tl.static_range(NDIM):
        b_r = sigmoid(a[k], MATH)
        b_candidate += b_r * a[2 * NDIM + 1 + k]
        resets = resets + (b_r,)
        parts = parts + (a[2 * NDIM + 1 + k],)
    b_candidate = tanh(b_candidate, MATH)
    shares, b_own = softmax_with_zero(a, NDIM, NDIM, MATH)
    b_h = b_own * b_candidate
    for k in tl.static_range(NDIM):
        b_h += shares[k] * states[k]
    return b_h, b_h, resets + shares + (b_candidate,) + parts


@triton.jit
def gru_backward(b_dh, kept, b_h, states, NDIM: tl.constexpr):
    b_candidate = kept[2 * NDIM]
    b_own = tl.zeros_like(b_h) + 1.0
    choosing = ()
    carries = ()
    for k in tl.static_range(NDIM):
        b_z = kept[NDIM + k]
        b_own -= b_z
        choosing = choosing + (b_dh * b_z * (states[k] - b_h),)
        carries = carries + (b_dh * b_z,)
    b_d_candidate = b_dh * b_own * (1.0 - b_candidate * b_candidate)
    resetting = ()
    parts = ()
    for k in tl.static_range(NDIM):
        b_r = kept[k]
        resetting = resetting + (b_d_candidate * kept[2 * NDIM + 1 + k] * b_r * (1.0 - b_r),)
        parts = parts + (b_d_candidate * b_r,)
    return resetting + choosing + (b_d_candidate,) + parts, carries


@triton.jit
def forward(a, states, extra, CELL: tl.constexpr, MATH: tl.constexpr):
    """(output, state, what is kept by lane) of a tile; extra holds the peepholes or nothing."""
    NAME: tl.constexpr = CELL.name
    NDIM: tl.constexpr = CELL.ndim
    if NAME == "rnn_tanh" or NAME == "rnn_relu":
        return rnn_forward(a, NAME == "rnn_relu", MATH)
    elif NAME == "lstm" or NAME == "lstm_peephole":
        return lstm_forward(a, states, extra, NDIM, NAME == "lstm_peephole", MATH)
    elif NAME == "stable":
        return stable_forward(a, states, NDIM, MATH)
    elif NAME == "leaky":
        return leaky_forward(a, states, NDIM, MATH)
    elif NAME == "gru":
        return gru_forward(a, states, NDIM, MATH)
    else:
        tl.static_assert(NAME == "spatial" or NAME == "spatial_extended")
        return spatial_forward(a, states, NDIM, MATH)


@triton.jit
def backward(
    b_dh, b_ds, kept, b_h, b_s, states, extra, CELL: tl.constexpr, MATH: tl.constexpr
):  # fmt: skip
    """(gradients of the pre-activations by lane, what goes straight into the predecessors' states by axis)."""
    NAME: tl.constexpr = CELL.name
    NDIM: tl.constexpr = CELL.ndim
    if NAME == "rnn_tanh" or NAME == "rnn_relu":
        return rnn_backward(b_dh, b_h, NAME == "rnn_relu", MATH)
    elif NAME == "lstm" or NAME == "lstm_peephole":
        return lstm_backward(b_dh, b_ds, kept, b_s, states, extra, NDIM, NAME == "lstm_peephole", MATH)
    elif NAME == "stable":
        return stable_backward(b_dh, b_ds, kept, b_s, states, NDIM, MATH)
    elif NAME == "leaky":
        return leaky_backward(b_dh, b_ds, kept, b_h, b_s, states, NDIM)
    elif NAME == "gru":
        return gru_backward(b_dh + b_ds, kept, b_s, states, NDIM)
    else:
        tl.static_assert(NAME == "spatial" or NAME == "spatial_extended")
        return spatial_backward(b_dh, b_ds, kept, b_h, b_s, states, NDIM, MATH)
