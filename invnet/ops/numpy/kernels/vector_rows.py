"""Numba intrinsics in LLVM's vector instructions: copies, transposes, sums and combinations of rows.

Arrays are flat, with offsets. Memory is read up to a vector beyond what is asked for, and `sum_runs` writes as far.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .vectors import INT, INT32, Vectors, one, pointer


def _rolled(b):
    """Keeps LLVM from unrolling the loop that has this: most are short, and each takes a tenth of a second to
    compile.
    """
    mark = b.asm(ir.FunctionType(ir.VoidType(), []), "", "", [], side_effect=True)
    mark.attributes.add("convergent")


@intrinsic
def transpose_square(typing, source, so, row, count, out, oo, pitch):
    """out[oo + i * pitch + j] = source[so + j * row + i] for i and j below the lanes of a vector; 0 for j from `count`
    on.
    """

    def build(context, b, signature, args):
        source, so, row, count, out, oo, pitch = args
        types_ = signature.args
        V = Vectors(context, b, types_[0].dtype)
        source, out = pointer(context, b, types_[0], source, so), pointer(context, b, types_[4], out, oo)
        lanes, half, rows = V.lanes, V.lanes // 2, []
        for i in range(lanes):
            number = ir.Constant(INT, i)
            there = b.icmp_signed("<", number, count)
            vector = V.load(b.gep(source, [b.select(there, b.mul(row, number), ir.Constant(INT, 0))]))
            rows.append(b.select(there, vector, V.zero))
        mix = lambda first: ir.Constant(
            ir.VectorType(INT32, lanes),
            [ir.Constant(INT32, first + i // 2 + (lanes if i % 2 else 0)) for i in range(lanes)],
        )
        for _ in range(lanes.bit_length() - 1):  # so many perfect shuffles of all numbers exchange rows and columns
            rows = [b.shuffle_vector(rows[i // 2], rows[i // 2 + half], mix(i % 2 * half)) for i in range(lanes)]
        for i, vector in enumerate(rows):
            V.store(vector, b.gep(out, [b.mul(pitch, ir.Constant(INT, i))]))
        return context.get_dummy_value()

    i = types.intp
    return types.void(source, i, i, i, out, i, i), build


def _copy(beyond):
    @intrinsic
    def copy_rows(typing, source, so, row, out, oo, pitch, count, width, real):
        """out[oo + k * pitch + j] = source[so + k * row + j] for `count` rows k and j below `real`; from there to
        `width` 0, or what was there.

        `width` is a number of whole vectors.
        """

        def build(context, b, signature, args):
            source, so, row, out, oo, pitch, count, width, real = args
            types_ = signature.args
            V = Vectors(context, b, types_[0].dtype)
            source, out = pointer(context, b, types_[0], source, so), pointer(context, b, types_[3], out, oo)
            zero, lane = ir.Constant(INT, 0), ir.VectorType(INT, V.lanes)
            numbers = ir.Constant(lane, [ir.Constant(INT, i) for i in range(V.lanes)])
            with cgutils.for_range_slice(b, zero, width, ir.Constant(INT, V.lanes)) as (j, _):
                _rolled(b)
                mask = b.icmp_signed("<", numbers, V.spread(b.sub(real, j)))
                with cgutils.for_range(b, count) as loop:
                    _rolled(b)
                    vector, to = (
                        V.load(b.gep(source, [b.add(b.mul(loop.index, row), j)])),
                        b.gep(out, [b.add(b.mul(loop.index, pitch), j)]),
                    )
                    V.store(b.select(mask, vector, V.zero if beyond == "zeros" else V.load(to)), to)
            return context.get_dummy_value()

        i = types.intp
        return types.void(source, i, i, out, i, i, i, i, i), build

    return copy_rows


copy_rows, merge_rows = _copy("zeros"), _copy("what was there")


@intrinsic
def pack_rows(typing, source, so, pitch, out, oo, row, count, width):
    """out[oo + k * row + j] = source[so + k * pitch + j] for `count` rows k and j below `width`, of whole vectors, row
    after row.

    What goes beyond a row is overwritten by the next, so that rows may be closer to one another than `width`.
    """

    def build(context, b, signature, args):
        source, so, pitch, out, oo, row, count, width = args
        types_ = signature.args
        V = Vectors(context, b, types_[0].dtype)
        source, out = pointer(context, b, types_[0], source, so), pointer(context, b, types_[3], out, oo)
        with cgutils.for_range(b, count) as loop:
            rows = b.gep(source, [b.mul(loop.index, pitch)]), b.gep(out, [b.mul(loop.index, row)])
            with cgutils.for_range_slice(b, ir.Constant(INT, 0), width, ir.Constant(INT, V.lanes)) as (j, _):
                _rolled(b)
                V.store(V.load(b.gep(rows[0], [j])), b.gep(rows[1], [j]))
        return context.get_dummy_value()

    i = types.intp
    return types.void(source, i, i, out, i, i, i, i), build


@intrinsic
def sum_runs(typing, y, yo, start, T, to, offsets, first, count, length):
    """y[yo + c] = start[c] + sum_i T[to + offsets[i] + c] for `count` offsets from the first and c below `length`,
    rounded up to vectors.
    """

    def build(context, b, signature, args):
        y, yo, start, T, to, offsets, o, count, length = args
        types_ = signature.args
        V = Vectors(context, b, types_[0].dtype)
        y, T = pointer(context, b, types_[0], y, yo), pointer(context, b, types_[3], T, to)
        zero = ir.Constant(INT, 0)
        start, offsets = pointer(context, b, types_[2], start, zero), pointer(context, b, types_[5], offsets, o)
        with cgutils.for_range_slice(b, zero, length, ir.Constant(INT, V.lanes)) as (c, _):
            _rolled(b)
            first, before = V.load(b.gep(start, [c])), b.block
            loop, after = b.append_basic_block("runs"), b.append_basic_block("summed")
            b.cbranch(b.icmp_signed(">", count, zero), loop, after)
            b.position_at_end(loop)
            i, running = b.phi(INT), b.phi(V.type)
            _rolled(b)
            i.add_incoming(zero, before)
            running.add_incoming(first, before)
            run = V.load(b.gep(T, [b.add(b.load(b.gep(offsets, [i])), c)]))
            total, i_next = b.fadd(running, run), b.add(i, one())
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
    """total[to + c] += sum over `count` rows r of R[ro + r * pitch + c], for c below `width`, of whole vectors; four
    sums at a time.
    """

    def build(context, b, signature, args):
        R, ro, pitch, count, total, to, width = args
        types_ = signature.args
        V = Vectors(context, b, types_[0].dtype)
        R, total = pointer(context, b, types_[0], R, ro), pointer(context, b, types_[4], total, to)
        zero, four = ir.Constant(INT, 0), ir.Constant(INT, 4)
        fours = b.mul(b.sdiv(count, four), four)
        with cgutils.for_range_slice(b, zero, width, ir.Constant(INT, V.lanes)) as (c, _):
            sums = [cgutils.alloca_once(b, V.type) for _ in range(4)]
            for place in sums:
                b.store(V.zero, place)

            def add(row, place):
                b.store(b.fadd(b.load(place), V.load(b.gep(R, [b.add(b.mul(row, pitch), c)]))), place)

            with cgutils.for_range_slice(b, zero, fours, four) as (r, _):
                for i, place in enumerate(sums):
                    add(b.add(r, ir.Constant(INT, i)), place)
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
        """out[oo + i * pitch + c] = sum_j matrix[i, j] source[so + j * step + c] for c below `width`, rounded up to
        vectors; in place too.

        With `added` the sums are added to what is there.
        """

        def build(context, b, signature, args):
            source, so, step, out, oo, pitch, width = args
            types_ = signature.args
            V = Vectors(context, b, types_[0].dtype)
            source, out = pointer(context, b, types_[0], source, so), pointer(context, b, types_[3], out, oo)
            rows = [b.gep(source, [b.mul(step, ir.Constant(INT, j))]) for j in range(matrix.shape[1])]
            sums = [b.gep(out, [b.mul(pitch, ir.Constant(INT, i))]) for i in range(matrix.shape[0])]
            with cgutils.for_range_slice(b, ir.Constant(INT, 0), width, ir.Constant(INT, V.lanes)) as (c, _):
                _rolled(b)
                vectors = [V.load(b.gep(row, [c])) for row in rows]
                for to, factors in zip(sums, matrix):
                    total = (
                        V.load(b.gep(to, [c]))
                        if added
                        else ir.Constant(V.type, [ir.Constant(V.element, -0.0)] * V.lanes)
                    )  # 0 would be a sum
                    for vector, factor in zip(vectors, factors):
                        if factor in (1, -1):
                            total = (b.fadd if factor == 1 else b.fsub)(total, vector)
                        elif factor:
                            total = V.fma(
                                vector, ir.Constant(V.type, [ir.Constant(V.element, float(factor))] * V.lanes), total
                            )
                    V.store(total, b.gep(to, [c]))
            return context.get_dummy_value()

        i = types.intp
        return types.void(source, i, i, out, i, i, i), build

    return combine
