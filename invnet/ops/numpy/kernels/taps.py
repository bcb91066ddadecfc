"""The taps of a convolution, for use inside compiled functions: padded images that a product reads by offsets, and
sums.

An image is rows, one for each position of N images (D, H, W), of C channels; `kd, kh, kw` is the kernel.
"""

from .products import clear
from .simple import ONE, inner, once
from .vector_rows import copy_rows, pack_rows, sum_runs


@inner
def spacing(x):
    """How many numbers apart the positions of an array (N, D, H, W, C) are, if that is the same for all, with channels
    side by side; else 0.
    """
    N, D, H, W, C = x.shape
    n, d, h, w, c = x.strides
    even = (
        (C == 1 or c == x.itemsize)
        and (H == 1 or h == W * w)
        and (D == 1 or d == H * W * w)
        and (N == 1 or n == D * H * W * w)
    )
    return w // x.itemsize if even and W > 1 else 0


@inner
def rows_of(x, work, o, pitch):
    """Rows, `pitch` apart, of an array x (N, D, H, W, C), with zeros after the channels."""
    N, D, H, W, C = x.shape
    step, r, whole = spacing(x), 0, 0
    if step > 0:  # so many rows have `pitch` numbers of x from their first on
        whole = max(0, ((N * D * H * W - 1) * step + C - pitch) // step + 1)
        copy_rows(x, 0, step, work, o, pitch, whole, pitch, C)
    for n in range(N):
        for d in range(D):
            for h in range(H):
                for w in range(W):
                    if r >= whole:
                        row = work[o + r * pitch : o + (r + 1) * pitch]
                        for c in range(C):
                            row[c] = x[n, d, h, w, c]
                        clear(row, C, pitch)
                    r += 1


@inner
def rows_to(work, o, pitch, x):
    """The array's numbers are those of the rows, as `rows_of` takes them."""
    N, D, H, W, C = x.shape
    r, whole = 0, 0
    if spacing(x) == C:
        whole = max(0, (N * D * H * W * C - pitch) // C + 1)
        pack_rows(work, o, pitch, x, 0, C, whole, pitch)
    for n in range(N):
        for d in range(D):
            for h in range(H):
                for w in range(W):
                    if r >= whole:
                        for c in range(C):
                            x[n, d, h, w, c] = work[o + r * pitch + c]
                    r += 1


@once
def pad(rows, pitch, work, o, N, D, H, W, C, kd, kh, kw):
    """Images with zeros around them, (N, D + kd - 1, H + kh - 1, W + kw - 1, C) at o, of rows `pitch` apart."""
    Dp, Hp, Wp, at = D + kd - 1, H + kh - 1, W + kw - 1, 0
    clear(work, o, o + N * Dp * Hp * Wp * C)
    for n in range(N):
        for d in range(kd // 2, kd // 2 + D):
            for h in range(kh // 2, kh // 2 + H):
                to = o + (((n * Dp + d) * Hp + h) * Wp + kw // 2) * C
                for w in range(W):
                    row, position = rows[at : at + C], work[to + w * C : to + (w + 1) * C]
                    at += pitch
                    for c in range(C):
                        position[c] = row[c]


@inner
def lattice(offsets, N, D, H, W, n, d, h, w):
    """Where the points of a lattice lie, the last axis fastest; its axes have N, D, H and W points, n, d, h and w
    apart.
    """
    point = 0
    for i in range(N):
        for j in range(D):
            for k in range(H):
                for l in range(W):
                    offsets[point + l] = i * n + j * d + k * h + l * w
                point += W


@inner
def find_taps(first, after, N, D, H, W, C, step, kd, kh, kw):
    """Where in padded images, of positions `step` apart, the first taps of the positions lie, and after that all taps
    of C channels each.
    """
    w, h = step, (W + kw - 1) * step
    d = (H + kh - 1) * h
    lattice(first, N, D, H, W, (D + kd - 1) * d, d, h, w)
    lattice(after, kd, kh, kw, C, d, h, w, ONE)


@once
def sum_taps(work, columns, pitch, bias, Y, out, out_pitch, N, D, H, W, C, kd, kh, kw, offsets):
    """The transpose of reading taps: Y[out + p] = bias + sum over taps of the columns of that tap at p - tap.

    `columns` and `bias` lie in `work`; `offsets` is scratch for those of the taps of a row that are inside the image,
    and of a position.
    """
    pd, ph, pw, row, start = kd // 2, kh // 2, kw // 2, 0, work[bias:]
    for n in range(N):
        for d in range(D):
            for h in range(H):
                count = 0
                for i in range(kd):
                    for j in range(kh):
                        if 0 <= d + pd - i < D and 0 <= h + ph - j < H:
                            for k in range(kw):
                                offsets[count] = (((pd - i) * H + ph - j) * W + pw - k) * pitch + (
                                    (i * kh + j) * kw + k
                                ) * C
                                count += 1
                for w in range(W):
                    to, at = out + row * out_pitch, columns + row * pitch
                    first, some = 0, count
                    if not pw <= w < W - pw:
                        first, some = count, 0
                        for i in range(count):
                            if 0 <= w + pw - i % kw < W:
                                offsets[count + some] = offsets[i]
                                some += 1
                    sum_runs(Y, to, start, work, at, offsets, first, some, C)
                    row += 1
