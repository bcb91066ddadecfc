"""Numba intrinsics written in LLVM's vector instructions: a block of a matrix product, and sums of runs.

BLAS is tuned for large square matrices. A conditioner's are long and narrow; for these a loop that keeps a block of the
product in registers is up to 1.4 times as fast as OpenBLAS below 128 columns and as fast from there on
(benchmarks/products.py), and it lets a whole conditioner be one compiled call.
Numba's own loops cannot be brought to keep such a block in registers.

Arrays are flat, with offsets. Memory is read up to a vector beyond what is asked for, and `sum_runs` writes as far:
whoever calls leaves room (`SLACK`).
"""

import platform

from llvmlite import binding, ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic


def _features():
    """Of the processor that Numba compiles for."""
    if config.CPU_FEATURES is not None:
        return {name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+")}
    return {name for name, there in binding.get_host_cpu_features().items() if there and config.CPU_NAME is None}


def _registers():
    """Bytes of a vector, rows and vectors of a block whose sums fill the registers, and the name of such in assembler."""
    features, arm = _features(), platform.machine() in ("aarch64", "arm64")
    if "avx512f" in features:
        return 64, 14, 2, "v"
    if {"avx2", "fma"} <= features:
        return 32, 6, 2, "x"
    return (16, 12, 2, "w") if arm else (16, 6, 2, None)


BYTES, ROWS, VECTORS, REGISTER = _registers()
#: rows of a low block, for the rows that are left of a product, or all that it has
FEW = 4
#: floats to leave free at the end of an array
SLACK = 64

_int, _int32 = ir.IntType(64), ir.IntType(32)


class _Vectors:
    """Vectors of a dtype in a function under construction."""

    def __init__(self, context, builder, dtype):
        self.builder, self.size = builder, dtype.bitwidth // 8
        self.element, self.lanes = context.get_value_type(dtype), BYTES // self.size
        self.type = ir.VectorType(self.element, self.lanes)
        self.zero = ir.Constant(self.type, [ir.Constant(self.element, 0.0)] * self.lanes)
        fused = "fma" if REGISTER else "fmuladd"  # where there is no such instruction the one would be a call
        name = f"llvm.{fused}.v{self.lanes}f{dtype.bitwidth}"
        self._fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(self.type, [self.type] * 3), name)

    def at(self, pointer, vectors=0):
        place = self.builder.gep(pointer, [ir.Constant(_int, vectors * self.lanes)])
        return self.builder.bitcast(place, self.type.as_pointer())

    def load(self, pointer, vectors=0):
        vector = self.builder.load(self.at(pointer, vectors))
        vector.align = self.size
        return vector

    def store(self, vector, pointer, vectors=0):
        self.builder.store(vector, self.at(pointer, vectors)).align = self.size

    def spread(self, number):
        """A vector of one number, a float or an integer."""
        some = ir.Constant(ir.VectorType(number.type, self.lanes), ir.Undefined)
        zeros = ir.Constant(ir.VectorType(_int32, self.lanes), [ir.Constant(_int32, 0)] * self.lanes)
        return self.builder.shuffle_vector(self.builder.insert_element(some, number, ir.Constant(_int32, 0)), some, zeros)

    def fma(self, a, x, y):
        return self.builder.call(self._fma, [a, x, y])

    def now(self, vector):
        """The vector, computed before what is loaded after.

        LLVM moves the loads of a whole block of rows to the front and the sums to the stack: at twice the time.
        """
        if REGISTER is None:
            return vector
        return self.builder.asm(ir.FunctionType(self.type, [self.type]), "", f"={REGISTER},0,~{{memory}}", [vector], side_effect=True)


def _rolled(b):
    """Keeps LLVM from unrolling the loop that has this: most are short, and each takes a tenth of a second to compile."""
    mark = b.asm(ir.FunctionType(ir.VoidType(), []), "", "", [], side_effect=True)
    mark.attributes.add("convergent")


def _pointer(context, builder, array_type, array, offset):
    """To an element of an array's memory, counted from its first, whatever its strides."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])


def _one():
    return ir.Constant(_int, 1)


def _block(rows, vectors):
    @intrinsic
    def block(typing, A, ao, ro, r, last, ko, K, B, bo, ldb, S, so, lds, C, co, ldc):
        """C[i, j] = S[i, j] + sum_k A[ro[i] + ko[k]] B[k, j] for `rows` rows i from r; those after `last` repeat it.

        A at ao; B at bo with rows `ldb` apart; row r of S and of C at so and co, rows lds and ldc apart.
        """

        def build(context, b, signature, args):
            A, ao, ro, r, last, ko, K, B, bo, ldb, S, so, lds, C, co, ldc = args
            types_ = signature.args
            V = _Vectors(context, b, types_[0].dtype)
            A, B = _pointer(context, b, types_[0], A, ao), _pointer(context, b, types_[7], B, bo)
            S, C = _pointer(context, b, types_[10], S, so), _pointer(context, b, types_[13], C, co)
            ko = _pointer(context, b, types_[5], ko, ir.Constant(_int, 0))
            a_rows, c_rows, sums = [], [], []
            for i in range(rows):
                row = b.add(r, ir.Constant(_int, i))
                row = b.select(b.icmp_signed("<", row, last), row, last)
                a_rows.append(b.gep(A, [b.load(_pointer(context, b, types_[2], ro, row))]))
                c_rows.append(b.gep(C, [b.mul(b.sub(row, r), ldc)]))
                start = b.gep(S, [b.mul(b.sub(row, r), lds)])
                sums.append([V.load(start, j) for j in range(vectors)])
            first, before, loop, after = b.load(ko), b.block, b.append_basic_block("loop"), b.append_basic_block("after")
            b.branch(loop)

            b.position_at_end(loop)
            k, panel = b.phi(_int), b.phi(B.type)
            k.add_incoming(ir.Constant(_int, 0), before)
            panel.add_incoming(B, before)
            offset = b.phi(_int)
            offset.add_incoming(first, before)
            running = [[b.phi(V.type) for _ in range(vectors)] for _ in range(rows)]
            row_of_B = [V.load(panel, j) for j in range(vectors)]
            total = []
            for i in range(rows):
                a = V.spread(b.load(b.gep(a_rows[i], [offset])))
                total.append([V.now(V.fma(a, row_of_B[j], running[i][j])) for j in range(vectors)])
                for j in range(vectors):
                    running[i][j].add_incoming(sums[i][j], before)
                    running[i][j].add_incoming(total[i][j], loop)
            k_next = b.add(k, _one())
            k.add_incoming(k_next, loop)
            offset.add_incoming(b.load(b.gep(ko, [k_next])), loop)
            panel.add_incoming(b.gep(panel, [ldb]), loop)
            b.cbranch(b.icmp_signed("<", k_next, K), loop, after)

            b.position_at_end(after)
            for i in range(rows):
                for j in range(vectors):
                    V.store(total[i][j], c_rows[i], j)
            return context.get_dummy_value()

        i = types.intp
        return types.void(A, i, ro, i, i, ko, i, B, i, i, S, i, i, C, i, i), build

    return block


block, narrow_block = _block(ROWS, VECTORS), _block(ROWS, 1)
low_block, small_block = _block(FEW, VECTORS), _block(FEW, 1)


@intrinsic
def transpose_square(typing, source, so, row, count, out, oo, pitch):
    """out[oo + i * pitch + j] = source[so + j * row + i] for i and j below the lanes of a vector; 0 for j from `count` on."""

    def build(context, b, signature, args):
        source, so, row, count, out, oo, pitch = args
        types_ = signature.args
        V = _Vectors(context, b, types_[0].dtype)
        source, out = _pointer(context, b, types_[0], source, so), _pointer(context, b, types_[4], out, oo)
        lanes, half, rows = V.lanes, V.lanes // 2, []
        for i in range(lanes):
            number = ir.Constant(_int, i)
            there = b.icmp_signed("<", number, count)
            vector = V.load(b.gep(source, [b.select(there, b.mul(row, number), ir.Constant(_int, 0))]))
            rows.append(b.select(there, vector, V.zero))
        mix = lambda first: ir.Constant(ir.VectorType(_int32, lanes), [
            ir.Constant(_int32, first + i // 2 + (lanes if i % 2 else 0)) for i in range(lanes)])
        for _ in range(lanes.bit_length() - 1):  # so many perfect shuffles of all numbers exchange rows and columns
            rows = [b.shuffle_vector(rows[i // 2], rows[i // 2 + half], mix(i % 2 * half)) for i in range(lanes)]
        for i, vector in enumerate(rows):
            V.store(vector, b.gep(out, [b.mul(pitch, ir.Constant(_int, i))]))
        return context.get_dummy_value()

    i = types.intp
    return types.void(source, i, i, i, out, i, i), build


def _copy(beyond):
    @intrinsic
    def copy_rows(typing, source, so, row, out, oo, pitch, count, width, real):
        """out[oo + k * pitch + j] = source[so + k * row + j] for `count` rows k and j below `real`; from there to `width` 0, or what was there.

        `width` is a number of whole vectors.
        """

        def build(context, b, signature, args):
            source, so, row, out, oo, pitch, count, width, real = args
            types_ = signature.args
            V = _Vectors(context, b, types_[0].dtype)
            source, out = _pointer(context, b, types_[0], source, so), _pointer(context, b, types_[3], out, oo)
            zero, lane = ir.Constant(_int, 0), ir.VectorType(_int, V.lanes)
            numbers = ir.Constant(lane, [ir.Constant(_int, i) for i in range(V.lanes)])
            with cgutils.for_range_slice(b, zero, width, ir.Constant(_int, V.lanes)) as (j, _):
                _rolled(b)
                mask = b.icmp_signed("<", numbers, V.spread(b.sub(real, j)))
                with cgutils.for_range(b, count) as loop:
                    _rolled(b)
                    vector, to = V.load(b.gep(source, [b.add(b.mul(loop.index, row), j)])), b.gep(out, [b.add(b.mul(loop.index, pitch), j)])
                    V.store(b.select(mask, vector, V.zero if beyond == "zeros" else V.load(to)), to)
            return context.get_dummy_value()

        i = types.intp
        return types.void(source, i, i, out, i, i, i, i, i), build

    return copy_rows


copy_rows, merge_rows = _copy("zeros"), _copy("what was there")


@intrinsic
def pack_rows(typing, source, so, pitch, out, oo, row, count, width):
    """out[oo + k * row + j] = source[so + k * pitch + j] for `count` rows k and j below `width`, of whole vectors, row after row.

    What goes beyond a row is overwritten by the next, so that rows may be closer to one another than `width`.
    """

    def build(context, b, signature, args):
        source, so, pitch, out, oo, row, count, width = args
        types_ = signature.args
        V = _Vectors(context, b, types_[0].dtype)
        source, out = _pointer(context, b, types_[0], source, so), _pointer(context, b, types_[3], out, oo)
        with cgutils.for_range(b, count) as loop:
            rows = b.gep(source, [b.mul(loop.index, pitch)]), b.gep(out, [b.mul(loop.index, row)])
            with cgutils.for_range_slice(b, ir.Constant(_int, 0), width, ir.Constant(_int, V.lanes)) as (j, _):
                _rolled(b)
                V.store(V.load(b.gep(rows[0], [j])), b.gep(rows[1], [j]))
        return context.get_dummy_value()

    i = types.intp
    return types.void(source, i, i, out, i, i, i, i), build


@intrinsic
def sum_runs(typing, y, yo, start, T, to, offsets, first, count, length):
    """y[yo + c] = start[c] + sum_i T[to + offsets[i] + c] for `count` offsets from the first and c below `length`, rounded up to vectors."""

    def build(context, b, signature, args):
        y, yo, start, T, to, offsets, o, count, length = args
        types_ = signature.args
        V = _Vectors(context, b, types_[0].dtype)
        y, T = _pointer(context, b, types_[0], y, yo), _pointer(context, b, types_[3], T, to)
        zero = ir.Constant(_int, 0)
        start, offsets = _pointer(context, b, types_[2], start, zero), _pointer(context, b, types_[5], offsets, o)
        with cgutils.for_range_slice(b, zero, length, ir.Constant(_int, V.lanes)) as (c, _):
            _rolled(b)
            first, before = V.load(b.gep(start, [c])), b.block
            loop, after = b.append_basic_block("runs"), b.append_basic_block("summed")
            b.cbranch(b.icmp_signed(">", count, zero), loop, after)
            b.position_at_end(loop)
            i, running = b.phi(_int), b.phi(V.type)
            _rolled(b)
            i.add_incoming(zero, before)
            running.add_incoming(first, before)
            run = V.load(b.gep(T, [b.add(b.load(b.gep(offsets, [i])), c)]))
            total, i_next = b.fadd(running, run), b.add(i, _one())
            i.add_incoming(i_next, loop)
            running.add_incoming(total, loop)
            b.cbranch(b.icmp_signed("<", i_next, count), loop, after)
            b.position_at_end(after)
            result = b.phi(V.type)
            result.add_incoming(first, before)
            result.add_incoming(total, loop)
            V.store(result, b.gep(y, [c]))
        return context.get_dummy_value()

    i = types.intp
    return types.void(y, i, start, T, i, offsets, i, i, i), build


@intrinsic
def add_rows(typing, R, ro, pitch, count, total, to, width):
    """total[to + c] += sum over `count` rows r of R[ro + r * pitch + c], for c below `width`, of whole vectors; four sums at a time."""

    def build(context, b, signature, args):
        R, ro, pitch, count, total, to, width = args
        types_ = signature.args
        V = _Vectors(context, b, types_[0].dtype)
        R, total = _pointer(context, b, types_[0], R, ro), _pointer(context, b, types_[4], total, to)
        zero, four = ir.Constant(_int, 0), ir.Constant(_int, 4)
        fours = b.mul(b.sdiv(count, four), four)
        with cgutils.for_range_slice(b, zero, width, ir.Constant(_int, V.lanes)) as (c, _):
            sums = [cgutils.alloca_once(b, V.type) for _ in range(4)]
            for place in sums:
                b.store(V.zero, place)

            def add(row, place):
                b.store(b.fadd(b.load(place), V.load(b.gep(R, [b.add(b.mul(row, pitch), c)]))), place)

            with cgutils.for_range_slice(b, zero, fours, four) as (r, _):
                for i, place in enumerate(sums):
                    add(b.add(r, ir.Constant(_int, i)), place)
            with cgutils.for_range(b, count, start=fours) as loop:
                add(loop.index, sums[0])
            one, two, three, four_ = (b.load(place) for place in sums)
            at = b.gep(total, [c])
            V.store(b.fadd(V.load(at), b.fadd(b.fadd(one, two), b.fadd(three, four_))), at)
        return context.get_dummy_value()

    i = types.intp
    return types.void(R, i, i, i, total, i, i), build


def combination(matrix, added=False):
    @intrinsic
    def combine(typing, source, so, step, out, oo, pitch, width):
        """out[oo + i * pitch + c] = sum_j matrix[i, j] source[so + j * step + c] for c below `width`, rounded up to vectors; in place too.

        With `added` the sums are added to what is there.
        """

        def build(context, b, signature, args):
            source, so, step, out, oo, pitch, width = args
            types_ = signature.args
            V = _Vectors(context, b, types_[0].dtype)
            source, out = _pointer(context, b, types_[0], source, so), _pointer(context, b, types_[3], out, oo)
            rows = [b.gep(source, [b.mul(step, ir.Constant(_int, j))]) for j in range(matrix.shape[1])]
            sums = [b.gep(out, [b.mul(pitch, ir.Constant(_int, i))]) for i in range(matrix.shape[0])]
            with cgutils.for_range_slice(b, ir.Constant(_int, 0), width, ir.Constant(_int, V.lanes)) as (c, _):
                _rolled(b)
                vectors = [V.load(b.gep(row, [c])) for row in rows]
                for to, factors in zip(sums, matrix):
                    total = V.load(b.gep(to, [c])) if added else ir.Constant(V.type, [ir.Constant(V.element, -0.0)] * V.lanes)  # 0 would be a sum
                    for vector, factor in zip(vectors, factors):
                        if factor in (1, -1):
                            total = (b.fadd if factor == 1 else b.fsub)(total, vector)
                        elif factor:
                            total = V.fma(vector, ir.Constant(V.type, [ir.Constant(V.element, float(factor))] * V.lanes), total)
                    V.store(total, b.gep(to, [c]))
            return context.get_dummy_value()

        i = types.intp
        return types.void(source, i, i, out, i, i, i), build

    return combine
