"""The reference against formulas written out anew, in numpy, one point and one unit vector at a time."""

import numpy as np
import pytest
import torch

import ndrnn
from ndrnn.lattice import all_directions

HIDDEN, INPUTS = 2, 3


def sigma(v):
    return 1 / (1 + np.exp(-v))


def softmax(*logits):
    powers = [np.exp(logit) for logit in logits]
    return [power / sum(powers) for power in powers]


def blocks(v):
    return v.reshape(-1, HIDDEN)


def rnn_tanh(w, x, h1, h2, c1, c2):
    return np.tanh(w["ih"] @ x + w["hh"][0] @ h1 + w["hh"][1] @ h2 + w["b"]), None


def rnn_relu(w, x, h1, h2, c1, c2):
    return np.maximum(0, w["ih"] @ x + w["hh"][0] @ h1 + w["hh"][1] @ h2 + w["b"]), None


def lstm(w, x, h1, h2, c1, c2):
    i, f1, f2, g, o = blocks(w["ih"] @ x + w["hh"][0] @ h1 + w["hh"][1] @ h2 + w["b"])
    c = sigma(i) * np.tanh(g) + sigma(f1) * c1 + sigma(f2) * c2
    return sigma(o) * np.tanh(c), c


def lstm_peephole(w, x, h1, h2, c1, c2):
    i, f1, f2, g, o = blocks(w["ih"] @ x + w["hh"][0] @ h1 + w["hh"][1] @ h2 + w["b"])
    p_i, p_f1, p_f2, p_o = w["extra"]
    c = sigma(i + p_i * (c1 + c2)) * np.tanh(g) + sigma(f1 + p_f1 * c1) * c1 + sigma(f2 + p_f2 * c2) * c2
    return sigma(o + p_o * c) * np.tanh(c), c


def stable(w, x, h1, h2, c1, c2):
    i, f, lam, g, o = blocks(w["ih"] @ x + w["hh"][0] @ h1 + w["hh"][1] @ h2 + w["b"])
    # for two axes the softmax of (lambda, 0) is a logistic
    c = sigma(i) * np.tanh(g) + sigma(f) * (sigma(lam) * c1 + (1 - sigma(lam)) * c2)
    return sigma(o) * np.tanh(c), c


def leaky(w, x, h1, h2, c1, c2):
    f, lam, g, o1, o2 = blocks(w["ih"] @ x + w["hh"][0] @ h1 + w["hh"][1] @ h2 + w["b"])
    old = sigma(lam) * c1 + (1 - sigma(lam)) * c2
    c = (1 - sigma(f)) * np.tanh(g) + sigma(f) * old
    return np.tanh(sigma(o1) * c + sigma(o2) * old), c


def spatial(w, x, h1, h2, c1, c2):
    i, f1, f2, g, o = blocks(w["ih"] @ x + w["hh"][0] @ h1 + w["hh"][1] @ h2 + w["b"])
    c = np.tanh(g) * sigma(i) + sigma(f1) * c1 + sigma(f2) * c2
    return np.tanh(sigma(o) * c), c


def spatial_extended(w, x, h1, h2, c1, c2):
    through_h = w["hh"][0] @ h1 + w["hh"][1] @ h2
    through_c = w["extra"][0] @ c1 + w["extra"][1] @ c2
    i, f1, f2, g, o = blocks(w["ih"] @ x + through_h + through_c + w["b"])
    c = np.tanh(g) * sigma(i) + sigma(f1) * c1 + sigma(f2) * c2
    return np.tanh(sigma(o) * c), c


def gru(w, x, h1, h2, c1, c2):
    w_r1, w_r2, w_z1, w_z2, w_g = w["ih"].reshape(5, HIDDEN, INPUTS)
    u1_r1, u1_r2, u1_z1, u1_z2, u1_g = w["hh"][0].reshape(5, HIDDEN, HIDDEN)
    u2_r1, u2_r2, u2_z1, u2_z2, u2_g = w["hh"][1].reshape(5, HIDDEN, HIDDEN)
    b_r1, b_r2, b_z1, b_z2, b_g = blocks(w["b"])
    r1 = sigma(w_r1 @ x + u1_r1 @ h1 + u2_r1 @ h2 + b_r1)
    r2 = sigma(w_r2 @ x + u1_r2 @ h1 + u2_r2 @ h2 + b_r2)
    z1 = w_z1 @ x + u1_z1 @ h1 + u2_z1 @ h2 + b_z1
    z2 = w_z2 @ x + u1_z2 @ h1 + u2_z2 @ h2 + b_z2
    new, keep1, keep2 = softmax(np.zeros(HIDDEN), z1, z2)
    g = np.tanh(w_g @ x + b_g + r1 * (u1_g @ h1 + w["extra"][0]) + r2 * (u2_g @ h2 + w["extra"][1]))
    return new * g + keep1 * h1 + keep2 * h2, None


def linear(w, x, h1, h2, c1, c2):
    i, f1, f2, g, o = blocks(w["ih"] @ x + w["b"])
    new, keep1, keep2 = softmax(i, f1, f2)
    c = new * np.tanh(g) + keep1 * c1 + keep2 * c2
    return sigma(o) * c, c


def linear_even(w, x, h1, h2, c1, c2):
    i, f1, f2, g, o = blocks(w["ih"] @ x + w["b"])
    keep1, keep2 = sigma(f1) / 2, sigma(f2) / 2
    c = sigma(i) * (1 - keep1 - keep2) * np.tanh(g) + keep1 * c1 + keep2 * c2
    return sigma(o) * c, c


FORMULAS = {
    formula.__name__: formula
    for formula in (
        rnn_tanh,
        rnn_relu,
        lstm,
        lstm_peephole,
        stable,
        leaky,
        spatial,
        spatial_extended,
        gru,
        linear,
        linear_even,
    )
}


def scan_by_hand(formula, w, x, faces_h, faces_c, direction):
    """The 2 x 2 points in their order; the axes' entry faces stand in for predecessors outside."""
    rows, columns = ((0, 1) if sign > 0 else (1, 0) for sign in direction)
    h, c = np.zeros((2, 2, HIDDEN)), np.zeros((2, 2, HIDDEN))
    for i in rows:
        for j in columns:
            first_row, first_column = i == rows[0], j == columns[0]
            h1 = faces_h[0][j] if first_row else h[rows[0], j]
            c1 = faces_c[0][j] if first_row else c[rows[0], j]
            h2 = faces_h[1][i] if first_column else h[i, columns[0]]
            c2 = faces_c[1][i] if first_column else c[i, columns[0]]
            h[i, j], memory = formula(w, x[i, j], h1, h2, c1, c2)
            c[i, j] = 0 if memory is None else memory
    exits_h, exits_c = (
        ([state[rows[1], j] for j in (0, 1)], [state[i, columns[1]] for i in (0, 1)]) for state in (h, c)
    )
    return h, exits_h, exits_c


@pytest.mark.parametrize("direction", all_directions(2))
def test_two_by_two_points(variant, direction, normal, random_state):
    layer = variant(INPUTS, HIDDEN, 2, directions=[direction], scale=1.0)
    x = normal(1, 2, 2, INPUTS)
    state = random_state(layer, x)
    with ndrnn.backend("reference"):
        y, exits = layer(x, initial_state=state, return_state=True)

    def numpy(tensor):
        return tensor[0].detach().numpy()

    weights = {"ih": numpy(layer.weight_ih), "hh": numpy(layer.params.weight_hh), "b": numpy(layer.bias)}
    if layer.params.extra is not None:
        weights["extra"] = numpy(layer.params.extra)
    h_faces, c_faces = state.h, state.c or state.h
    faces_h, faces_c = ([face[0, 0].numpy() for face in faces] for faces in (h_faces, c_faces))
    h, exits_h, exits_c = scan_by_hand(
        FORMULAS[variant.name], weights, x[0].numpy(), faces_h, faces_c, direction
    )
    np.testing.assert_allclose(numpy(y), h, rtol=0, atol=1e-14)
    got_h, got_c = exits
    for axis in (0, 1):
        np.testing.assert_allclose(got_h[axis][0, 0].detach().numpy(), exits_h[axis], rtol=0, atol=1e-14)
        if layer.cell.memory:
            np.testing.assert_allclose(got_c[axis][0, 0].detach().numpy(), exits_c[axis], rtol=0, atol=1e-14)


def test_three_axes_of_the_convex_cells_and_the_gru(normal):
    """What two axes cannot show: the softmax over more than one logit, and the order of its entries."""
    a = normal(6)
    c = normal(3)
    h = normal(3)
    i, f, m1, m2, g, o = a.numpy()
    mix = np.dot(softmax(m1, m2, 0.0), c.numpy())
    stable_c = sigma(i) * np.tanh(g) + sigma(f) * mix
    units = [value.reshape(1) for value in c]
    got_h, got_c = ndrnn.StableMDLSTM(1, 1, 3).cell.step(a, [torch.zeros(6)], units, units, ())
    np.testing.assert_allclose(got_c.numpy(), [stable_c], rtol=1e-14)
    np.testing.assert_allclose(got_h.numpy(), [sigma(o) * np.tanh(stable_c)], rtol=1e-14)

    f, m1, m2, g, o1, o2 = a.numpy()
    mix = np.dot(softmax(m1, m2, 0.0), c.numpy())
    leaky_c = (1 - sigma(f)) * np.tanh(g) + sigma(f) * mix
    got_h, got_c = ndrnn.LeakyMDLSTM(1, 1, 3).cell.step(a, [torch.zeros(6)], units, units, ())
    np.testing.assert_allclose(got_c.numpy(), [leaky_c], rtol=1e-14)
    np.testing.assert_allclose(got_h.numpy(), [np.tanh(sigma(o1) * leaky_c + sigma(o2) * mix)], rtol=1e-14)

    a, u, b = normal(7), normal(3, 7), normal(3, 1)
    r = sigma((a[:3] + u[:, :3].sum(0)).numpy())
    z = (a[3:6] + u[:, 3:6].sum(0)).numpy()
    candidate = np.tanh(a[6].item() + sum(r[k] * (u[k, 6] + b[k, 0]).item() for k in range(3)))
    expected = np.dot(softmax(0.0, *z), [candidate, *h.numpy()])
    got_h, _ = ndrnn.MDGRU(1, 1, 3).cell.step(a, list(u), [value.reshape(1) for value in h], [], list(b))
    np.testing.assert_allclose(got_h.numpy(), [expected], rtol=1e-14)


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ((1, 1), [[1, 3], [4, 11]]),
        ((1, -1), [[3, 2], [12, 6]]),
        ((-1, 1), [[4, 13], [3, 7]]),
        ((-1, -1), [[14, 6], [7, 4]]),
    ],
)
def test_sums_that_one_can_do_in_the_head(backend, direction, expected):
    """With weights of one and no bias, h(p) = x(p) + h before p along either axis."""
    layer = ndrnn.MDRNN(1, 1, nonlinearity="relu", directions=[direction], bias=False, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(1)
    y = layer(torch.tensor([[1.0, 2], [3, 4]], dtype=torch.float64).reshape(1, 2, 2, 1))
    assert y[0, :, :, 0].tolist() == expected


def test_pascals_triangle(backend):
    """An impulse at the corner spreads by the number of lattice paths, C(i + j, i): why forget gates must sum to 1."""
    layer = ndrnn.MDRNN(1, 1, nonlinearity="relu", directions=[(1, 1)], bias=False, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(1)
    x = torch.zeros(1, 5, 5, 1, dtype=torch.float64)
    x[0, 0, 0] = 1
    assert layer(x)[0, :, :, 0].tolist() == [
        [1, 1, 1, 1, 1],
        [1, 2, 3, 4, 5],
        [1, 3, 6, 10, 15],
        [1, 4, 10, 20, 35],
        [1, 5, 15, 35, 70],
    ]
