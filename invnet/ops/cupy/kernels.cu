// The kernels of the CuPy engine, compiled once with REAL float and once with REAL double; what each computes is in ../reference.
//
// Every thread works alone: none waits for another, shares memory with it or adds to a number of its. So a sum is taken
// in passes, in an order that depends on the shape only, and results are the same bits every time; and so the tests can run
// this file on a CPU, a thread being one turn of a loop.
//
// Rows are the positions of all samples, one after the other. `rs` and `cs` are the strides from row to row and from
// channel to channel, in numbers, where an array is part of another; the other arrays are contiguous. Neighbouring threads have
// neighbouring channels, so that memory is read and written in whole lines. Indices have 32 bits, in which a division takes a
// fifth of the instructions; the engine takes no larger arrays.

typedef REAL real;
#define EPS (sizeof(real) == 4 ? (real)1.1920929e-7 : (real)2.220446049250313e-16)
#define TINY (sizeof(real) == 4 ? (real)1.1754944e-38 : (real)2.2250738585072014e-308)
#define EACH(i, n) for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < (unsigned)(n); i += gridDim.x * blockDim.x)
#define KERNEL extern "C" __global__ void

// ---- sums: passes, in each of which a thread adds every `parts`-th of the numbers that belong together

// out[g, p, w] = sum over k of in[g, p + k parts, w], of in (groups, length, width) and out (groups, parts, width)
KERNEL sums(const real *in, int groups, int length, int width, int parts, real *out) {
    EACH(i, groups * parts * width) {
        int w = i % width, p = i / width % parts, g = i / width / parts;
        real total = 0;
        for (int k = p; k < length; k += parts) total += in[((size_t)g * length + k) * width + w];
        out[i] = total;
    }
}

// ---- activations: 0 none, 1 relu, 2 leaky_relu, 3 softplus, 4 silu, 5 gelu, 6 tanh

__device__ real sigmoid(real a) {
    real e = exp(-fabs(a));
    return a > 0 ? 1 / (1 + e) : e / (1 + e);
}

__device__ real softplus(real a) { return (a > 0 ? a : 0) + log1p(exp(-fabs(a))); }

__device__ real normal_cdf(real a) { return (real)0.5 * erfc(a * (real)-0.7071067811865475244); }

__device__ real within(real a) { return a < -40 ? -40 : a > 40 ? 40 : a; }  // where the tail is 0, and not NaN, as of an infinite number

// A becomes a = A + b + added, or stays where H is A; H becomes act(a). Row r has the row r / each of `added`.
KERNEL activate(real *A, const real *b, const real *added, int each, int rows, int C, int kind, real *H) {
    EACH(i, rows * C) {
        int c = i % C;
        real a = A[i] + b[c];
        if (added) a += added[i / C / each * C + c];
        A[i] = a;
        if (kind == 1) a = a <= 0 ? 0 : a;  // NaN stays
        if (kind == 2) a = a <= 0 ? (real)0.01 * a : a;
        if (kind == 3) a = softplus(a);
        if (kind == 4) a *= sigmoid(a);
        if (kind == 5) a = (a > 0 ? a : within(a)) * normal_cdf(a);
        if (kind == 6) a = tanh(a);
        H[i] = a;
    }
}

// dH becomes dA = dH act'(A), from S, which is A of silu and gelu and else H; db[p, c] is the sum of dA over the rows p + k parts.
KERNEL activate_vjp(real *dH, const real *S, int rows, int C, int kind, int parts, real *db) {
    EACH(j, parts * C) {
        real total = 0;
        for (unsigned i = j; i < (unsigned)(rows * C); i += parts * C) {
            real g = dH[i], s = S[i];
            if (kind == 1) g = s <= 0 ? 0 : g;
            if (kind == 2) g = s <= 0 ? (real)0.01 * g : g;
            if (kind == 3) g *= -expm1(-s);
            if (kind == 4) g *= sigmoid(s) * (1 + s * (1 - sigmoid(s)));
            if (kind == 5) g *= normal_cdf(s) + within(s) * exp((real)-0.5 * within(s) * within(s)) * (real)0.3989422804014326779;
            if (kind == 6) g *= (1 - s) * (1 + s);
            dH[i] = g;
            total += g;
        }
        db[j] = total;
    }
}

// ---- the taps of a convolution: D, H, W are the spatial axes and d, h, w the sizes of the kernel, 1 where there is none

struct Position {
    int n, z, y, x;
    __device__ Position(int r, int D, int H, int W) : n(r / W / H / D), z(r / W / H % D), y(r / W % H), x(r % W) {}
};

#define EACH_TAP(t, oz, oy, ox) \
    for (int t = 0, oz = -(d / 2); oz <= d / 2; oz++) \
        for (int oy = -(h / 2); oy <= h / 2; oy++) \
            for (int ox = -(w / 2); ox <= w / 2; ox++, t++)

// T[r, t, c] = X[r + the offset of t, c], zero outside; X (N, C, D, H, W) has the strides sn, sc, sz, sy, sx.
KERNEL taps(const real *X, int sn, int sc, int sz, int sy, int sx, int N, int C, int D, int H, int W, int d, int h, int w, real *T) {
    EACH(i, N * D * H * W * C) {
        int c = i % C, r = i / C;
        Position p(r, D, H, W);
        const real *of = X + (ptrdiff_t)p.n * sn + (ptrdiff_t)c * sc;
        EACH_TAP(t, oz, oy, ox) {
            int z = p.z + oz, y = p.y + oy, x = p.x + ox;
            bool inside = z >= 0 && z < D && y >= 0 && y < H && x >= 0 && x < W;
            T[((size_t)r * (d * h * w) + t) * C + c] = inside ? of[(ptrdiff_t)z * sz + (ptrdiff_t)y * sy + (ptrdiff_t)x * sx] : (real)0;
        }
    }
}

// X[r, c] = sum over t of T[r - the offset of t, t, c], the transpose of taps
KERNEL shift_add(const real *T, int N, int C, int D, int H, int W, int d, int h, int w, real *X) {
    EACH(i, N * D * H * W * C) {
        int c = i % C, r = i / C;
        Position p(r, D, H, W);
        real total = 0;
        EACH_TAP(t, oz, oy, ox) {
            int z = p.z - oz, y = p.y - oy, x = p.x - ox;
            if (z >= 0 && z < D && y >= 0 && y < H && x >= 0 && x < W)
                total += T[((size_t)(r - (oz * H + oy) * W - ox) * (d * h * w) + t) * C + c];
        }
        X[i] = total;
    }
}

// ---- the channel mix: a thread holds a row in registers, so that it can be overwritten

// X becomes M (x - before) + after, where M has the strides mr and mc; `before` and `after` may be none.
template <int C>
__device__ void mix_rows(real *X, int rs, int cs, int rows, const real *M, int mr, int mc, const real *before, const real *after) {
    EACH(r, rows) {
        real *row = X + (ptrdiff_t)r * rs, x[C];
#pragma unroll
        for (int c = 0; c < C; c++) x[c] = row[(ptrdiff_t)c * cs] - (before ? before[c] : 0);
        for (int c = 0; c < C; c++) {
            real z = after ? after[c] : 0;
#pragma unroll
            for (int k = 0; k < C; k++) z += M[c * mr + k * mc] * x[k];
            row[(ptrdiff_t)c * cs] = z;
        }
    }
}

#define MIX(C) \
    KERNEL mix_##C(real *X, int rs, int cs, int rows, const real *M, int mr, int mc, const real *before, const real *after) { \
        mix_rows<C>(X, rs, cs, rows, M, mr, mc, before, after); \
    }
MIX(1) MIX(2) MIX(3) MIX(4) MIX(5) MIX(6) MIX(7) MIX(8) MIX(12) MIX(16) MIX(24) MIX(32) MIX(48) MIX(64) MIX(96)

// out[p, i, j] = sum over the rows p + k parts of A[r, i] B[r, j], and of A[r, i] for j = C: out is (parts, C, C + 1).
KERNEL outer(const real *A, int ars, int acs, const real *B, int brs, int bcs, int rows, int C, int parts, real *out) {
    EACH(i, parts * C * (C + 1)) {
        int b = i % (C + 1), a = i / (C + 1) % C, p = i / (C + 1) / C;
        real total = 0;
        for (int r = p; r < rows; r += parts)
            total += A[(ptrdiff_t)r * ars + (ptrdiff_t)a * acs] * (b < C ? B[(ptrdiff_t)r * brs + (ptrdiff_t)b * bcs] : 1);
        out[i] = total;
    }
}

// X becomes m x + b, m being a diagonal.
KERNEL scale(real *X, int rs, int cs, int rows, int C, const real *m, const real *b) {
    EACH(i, rows * C) {
        int c = i % C;
        real *x = X + (ptrdiff_t)(i / C) * rs + (ptrdiff_t)c * cs;
        *x = m[c] * *x + b[c];
    }
}

// Z becomes x = minv (z - b), dZ becomes m dz; out[p, 0, c] and out[p, 1, c] are the sums of dz x and dz over the rows p + k parts.
KERNEL scale_vjp(real *dZ, int drs, int dcs, real *Z, int rs, int cs, int rows, int C, const real *m, const real *minv, const real *b,
                  int parts, real *out) {
    EACH(i, parts * C) {
        int c = i % C, p = i / C;
        real dm = 0, db = 0;
        for (int r = p; r < rows; r += parts) {
            real *z = Z + (ptrdiff_t)r * rs + (ptrdiff_t)c * cs, *dz = dZ + (ptrdiff_t)r * drs + (ptrdiff_t)c * dcs;
            real x = minv[c] * (*z - b[c]);
            dm += *dz * x;
            db += *dz;
            *z = x;
            *dz *= m[c];
        }
        out[2 * p * C + c] = dm;
        out[(2 * p + 1) * C + c] = db;
    }
}

// ---- the coupling z2 = (x2 + t) s with h = [t, raw]; log s is a tanh(raw / a), or that of sigmoid(raw + 2) with a = 0, of 2 sigmoid(raw) with a = -log 2

__device__ real log_scale(real raw, real a) {
    if (a > 0) return a * tanh(raw / a);
    real u = a < 0 ? raw : raw + 2;
    return (u < 0 ? u : 0) - log1p(exp(-fabs(u))) - a;
}

// X becomes z2, or x2 where `inverse`; out[n, p, c] is the sum of log s, or of -log s, over the positions p + k parts of sample n.
KERNEL couple(real *X, int rs, int cs, const real *h, int N, int positions, int C, real a, int inverse, int parts, real *out) {
    EACH(i, N * parts * C) {
        int c = i % C, p = i / C % parts, n = i / C / parts;
        real total = 0;
        for (int k = p; k < positions; k += parts) {
            int r = n * positions + k;
            real *x = X + (ptrdiff_t)r * rs + (ptrdiff_t)c * cs;
            const real *of = h + (size_t)r * 2 * C + c;
            real log_s = log_scale(of[C], a);
            *x = inverse ? *x * exp(-log_s) - *of : (*x + *of) * exp(log_s);
            total += inverse ? -log_s : log_s;
        }
        out[i] = total;
    }
}

// The gradient of couple: X becomes its argument and dX the gradient in it, dh that in h.
KERNEL couple_vjp(real *dX, int drs, int dcs, real *X, int rs, int cs, const real *h, const real *dlogdet, int N, int positions, int C, real a,
                   int inverse, real *dh) {
    EACH(i, N * positions * C) {
        int c = i % C, r = i / C;
        size_t at = (size_t)r * 2 * C + c;
        real *x = X + (ptrdiff_t)r * rs + (ptrdiff_t)c * cs, *dx = dX + (ptrdiff_t)r * drs + (ptrdiff_t)c * dcs;
        real t = h[at], log_s = log_scale(h[at + C], a), s = exp(log_s), dl = dlogdet[r / positions];
        real slope = a > 0 ? 1 - log_s / a * (log_s / a) : -expm1(log_s + a);
        if (inverse) {
            real moved = *x + t;
            dh[at] = -*dx;
            dh[at + C] = -(*dx * moved + dl) * slope;
            *dx *= exp(-log_s);
            *x = moved * s;
        } else {
            dh[at + C] = (*dx * *x + dl) * slope;
            *dx *= s;
            dh[at] = *dx;
            *x = *x * exp(-log_s) - t;
        }
    }
}

// ---- space to depth: blocks of 1 << lz by 1 << ly by 1 << lx positions become channels

// Between a fine array (N, c, D bz, H by, W bx) and a coarse one (N, C = c bz by bx, D, H, W), each with its strides; `to_coarse` says which way.
KERNEL squeeze(real *fine, int fn, int fc, int fz, int fy, int fx, real *coarse, int sn, int sc, int sz, int sy, int sx, int N, int C, int D,
               int H, int W, int lz, int ly, int lx, int to_coarse) {
    EACH(i, N * D * H * W * C) {
        int k = i % C, r = i / C;
        Position p(r, D, H, W);
        real *in = coarse + (ptrdiff_t)p.n * sn + (ptrdiff_t)k * sc + (ptrdiff_t)p.z * sz + (ptrdiff_t)p.y * sy + (ptrdiff_t)p.x * sx;
        int x = (p.x << lx) + (k & ((1 << lx) - 1)), y = (p.y << ly) + (k >> lx & ((1 << ly) - 1));
        int z = (p.z << lz) + (k >> lx >> ly & ((1 << lz) - 1)), c = k >> lx >> ly >> lz;
        real *of = fine + (ptrdiff_t)p.n * fn + (ptrdiff_t)c * fc + (ptrdiff_t)z * fz + (ptrdiff_t)y * fy + (ptrdiff_t)x * fx;
        if (to_coarse) *in = *of;
        else *of = *in;
    }
}

// ---- planar: V = A, or where `solve` the v with v + (s - 1) tanh(v) = A; T = tanh(V) and Q = 1 - T^2 without cancellation

__device__ void tanh_of(real v, real &t, real &q) {
    real E = expm1(-2 * v);
    t = -E / (2 + E);
    q = 4 * (1 + E) / ((2 + E) * (2 + E));
}

// Halley's method from that end of a bracket of the root that lies on the good side by convexity; where a step would leave the
// bracket, its middle is taken.
KERNEL planar_tanh(const real *A, const real *softplus_of, int rows, int solve, real *V, real *T, real *Q) {
    EACH(i, rows) {
        real a = A[i], y = fabs(a), s = *softplus_of, v = y, t, q;
        if (solve) {
            real one = y + (1 - s), other = s > (real)1e-6 ? y / s : y + 1;
            v = (one > other) == (s > 1) ? one : other;
            real low = v < y ? v : y, high = v < y ? y : v;
            bool going = true;
            for (int k = 0; k < 100 && going; k++) {
                tanh_of(v, t, q);
                real f = y - (v - t) - s * t, slope = t * t + s * q;
                real step = f * slope / (slope * slope - f * (s - 1) * t * q + TINY);
                low = f > 0 ? v : low;
                high = f < 0 ? v : high;
                if (!(v + step >= low && v + step <= high)) step = (low + high) / 2 - v;
                // Convergence is cubic: after a step this small comes none. Where f is rounding alone, steps say nothing.
                going = fabs(step) > v * (sizeof(real) == 4 ? (real)3.8e-3 : (real)3.3e-6) && fabs(f) > 4 * EPS * (v + y);
                v += step;
            }
        }
        tanh_of(v, t, q);
        V[i] = a < 0 ? -v : v;
        T[i] = a < 0 ? -t : t;
        Q[i] = q;
    }
}

// ---- the spline: a thread has a number, whose parameters P are the logits of K widths, of K heights, and K - 1 slopes

struct Bin {
    real bound, least, zero, most[2], total[2];
    const real *P;
    int K, step;

    // P has the stride `step`; the softmaxes' sums.
    __device__ Bin(const real *P, int step, int K, real bound, real least, real zero) : bound(bound), least(least), zero(zero), P(P), K(K), step(step) {
#pragma unroll  // so that most and total lie in registers, as in spline_vjp
        for (int axis = 0; axis < 2; axis++) {
            real m = at(axis * K), sum = 0;
            for (int j = 1; j < K; j++) m = at(axis * K + j) > m ? at(axis * K + j) : m;
            for (int j = 0; j < K; j++) sum += exp(at(axis * K + j) - m);
            most[axis] = m, total[axis] = sum;
        }
    }
    __device__ real at(int j) const { return P[(ptrdiff_t)j * step]; }
    __device__ real share(int axis, int j) const { return exp(at(axis * K + j) - most[axis]) / total[axis]; }
    __device__ real size(int axis, int j) const { return 2 * bound * (least + (1 - K * least) * share(axis, j)); }
    __device__ real slope(int knot) const { return knot == 0 || knot == K ? 1 : least + softplus(zero + at(2 * K + knot - 1)); }

    int k;  // the bin of a value, and its corner, sizes and slopes
    real x, y, w, h, d0, d1, delta;
    // The value lies among the knots in x (axis 0) or in y (axis 1).
    __device__ void find(real value, int axis) {
        x = y = -bound;
        for (k = 0;; k++) {
            w = size(0, k), h = size(1, k);
            if (k == K - 1 || value < (axis ? y + h : x + w)) break;
            x += w, y += h;
        }
        d0 = slope(k), d1 = slope(k + 1), delta = h / w;
    }

    // xi from 0 to 1 of a value of x, or the xi whose rise is eta, of a value of y
    __device__ real place(real value, int axis) const {
        real eta = axis ? (value - y) / h : (value - x) / w;
        eta = eta < 0 ? 0 : eta > 1 ? 1 : eta;
        if (!axis) return eta;
        real u = d0 * (1 - eta) - d1 * eta, b = u + 2 * delta * eta;
        real D = sqrt(u * u + 4 * delta * delta * eta * (1 - eta));
        return b > 0 ? 2 * delta * eta / (b + D) : (D - b) / (2 * (delta * (1 - 2 * eta) - u));
    }
    __device__ real clipped(real value) const { return value < -bound ? -bound : value > bound ? bound : value; }
};

// S and log|det| (rows, C) of R, or R and that of the inverse of S where `inverse`
KERNEL spline(const real *R, int rs, int cs, const real *P, int prs, int pcs, int pks, int rows, int C, int K, real bound, real least, real zero,
              int inverse, real *S, real *logdet) {
    EACH(i, rows * C) {
        int c = i % C, r = i / C;
        real value = R[(ptrdiff_t)r * rs + (ptrdiff_t)c * cs];
        S[i] = value, logdet[i] = 0;
        if (!(value > -bound && value < bound)) continue;
        Bin at(P + (ptrdiff_t)r * prs + (ptrdiff_t)c * pcs, pks, K, bound, least, zero);
        at.find(value, inverse);
        real xi = at.place(value, inverse), left = 1 - xi, between = xi * left;
        real below = at.delta + (at.d0 + at.d1 - 2 * at.delta) * between;
        real rest = at.d1 * xi * xi + 2 * at.delta * between + at.d0 * left * left;
        S[i] = at.clipped(inverse ? at.x + at.w * xi : at.y + at.h * (at.delta * xi * xi + at.d0 * between) / below);
        real log_slope = 2 * log(at.delta) + log(rest) - 2 * log(below);
        logdet[i] = inverse ? -log_slope : log_slope;
    }
}

// dR, R and dP (rows, C, 3 K - 1), of S and the gradient dS in it; where `inverse`, S is of R and all else likewise.
KERNEL spline_vjp(const real *dS, int drs, int dcs, const real *S, int rs, int cs, const real *P, int prs, int pcs, int pks, const real *dlogdet,
                   int rows, int C, int K, real bound, real least, real zero, int inverse, real *dR, real *R, real *dP) {
    EACH(i, rows * C) {
        int c = i % C, r = i / C;
        real value = S[(ptrdiff_t)r * rs + (ptrdiff_t)c * cs], dvalue = dS[(ptrdiff_t)r * drs + (ptrdiff_t)c * dcs], dl = dlogdet[r];
        real *to = dP + (size_t)i * (3 * K - 1);
        R[i] = value, dR[i] = dvalue;
        for (int j = 0; j < 3 * K - 1; j++) to[j] = 0;
        if (!(value > -bound && value < bound)) continue;
        Bin at(P + (ptrdiff_t)r * prs + (ptrdiff_t)c * pcs, pks, K, bound, least, zero);
        at.find(value, !inverse);
        real xi = at.place(value, !inverse), left = 1 - xi, between = xi * left, delta = at.delta, d0 = at.d0, d1 = at.d1;
        real below = delta + (d0 + d1 - 2 * delta) * between, rest = d1 * xi * xi + 2 * delta * between + d0 * left * left;
        real rise = (delta * xi * xi + d0 * between) / below;
        real log_xi = 2 * (d1 * xi + delta * (1 - 2 * xi) - d0 * left) / rest - 2 * (d0 + d1 - 2 * delta) * (1 - 2 * xi) / below;
        R[i] = at.clipped(inverse ? at.y + at.h * rise : at.x + at.w * xi);
        if (inverse) {  // then the gradients of the forward map for the two that it would return, with the sign turned
            dvalue = (dvalue - dl * log_xi / at.w) * (below / delta) * (below / delta) / rest;
            dR[i] = dvalue;
            dvalue = -dvalue, dl = -dl;
        }
        real g = dvalue * at.h / below / below, dxi = g * delta * rest + dl * log_xi;
        real ddelta = g * between * (d1 * xi * xi - d0 * left * left) + dl * (2 / delta + 2 * between / rest - 2 * (1 - 2 * between) / below);
        real dx = -dxi / at.w, dw = -(dxi * xi + ddelta * delta) / at.w, dh = dvalue * rise + ddelta / at.w;
        if (!inverse) dR[i] = -dx;
        // xi = (value - x) / w, delta = h / w, S = y + h rise; x and y are the sums of the sizes before
#pragma unroll
        for (int axis = 0; axis < 2; axis++) {
            real before = axis ? dvalue : dx, here = axis ? dh : dw, mean = 0;
            for (int j = 0; j <= at.k; j++) mean += at.share(axis, j) * (j < at.k ? before : here);
            for (int j = 0; j < K; j++) {
                real dsize = j < at.k ? before : j == at.k ? here : 0;
                to[axis * K + j] = 2 * bound * (1 - K * least) * at.share(axis, j) * (dsize - mean);
            }
        }
        if (at.k > 0)
            to[2 * K + at.k - 1] = (g * between * (delta * left * left + d1 * between) + dl * (left * left / rest - 2 * between / below)) * -expm1(least - d0);
        if (at.k < K - 1)
            to[2 * K + at.k] = (-g * between * (delta * xi * xi + d0 * between) + dl * (xi * xi / rest - 2 * between / below)) * -expm1(least - d1);
    }
}
