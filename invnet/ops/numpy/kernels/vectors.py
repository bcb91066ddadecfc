"""LLVM's vector instructions in Numba's functions, and by them a block of a matrix product; `vector_rows` has what
passes over rows.

BLAS is tuned for large square matrices. A conditioner's are long and narrow; for these a loop that keeps a block of the
product in registers is up to 1.4 times as fast as OpenBLAS below 128 columns and as fast from there on
(benchmarks/products.py), and it lets a whole conditioner be one compiled call. Numba's own loops cannot be brought to
keep such a block in registers.

Arrays are flat, with offsets. Memory is read up to a vector beyond what is asked for: whoever calls leaves room
(`SLACK`).
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
    """Bytes of a vector, rows and vectors of a block whose sums fill the registers, and the name of such in
    assembler.
    """
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

INT, INT32 = ir.IntType(64), ir.IntType(32)


class Vectors:
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
        place = self.builder.gep(pointer, [ir.Constant(INT, vectors * self.lanes)])
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
        zeros = ir.Constant(ir.VectorType(INT32, self.lanes), [ir.Constant(INT32, 0)] * self.lanes)
        return self.builder.shuffle_vector(
            self.builder.insert_element(some, number, ir.Constant(INT32, 0)), some, zeros
        )

    def fma(self, a, x, y):
        return self.builder.call(self._fma, [a, x, y])

    def now(self, vector):
        """The vector, computed before what is loaded after.

        LLVM moves the loads of a whole block of rows to the front and the sums to the stack: at twice the time.
        """
        if REGISTER is None:
            return vector
        return self.builder.asm(
            ir.FunctionType(self.type, [self.type]), "", f"={REGISTER},0,~{{memory}}", [vector], side_effect=True
        )


def pointer(context, builder, array_type, array, offset):
    """To an element of an array's memory, counted from its first, whatever its strides."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [offset])


def one():
    return ir.Constant(INT, 1)


def _block(rows, vectors):
    @intrinsic
    def block(typing, A, ao, ro, r, last, ko, K, B, bo, ldb, S, so, lds, C, co, ldc):
        """C[i, j] = S[i, j] + sum_k A[ro[i] + ko[k]] B[k, j] for `rows` rows i from r; those after `last` repeat it.

        A at ao; B at bo with rows `ldb` apart; row r of S and of C at so and co, rows lds and ldc apart.
        """

        def build(context, b, signature, args):
            A, ao, ro, r, last, ko, K, B, bo, ldb, S, so, lds, C, co, ldc = args
            types_ = signature.args
            V = Vectors(context, b, types_[0].dtype)
            A, B = pointer(context, b, types_[0], A, ao), pointer(context, b, types_[7], B, bo)
            S, C = pointer(context, b, types_[10], S, so), pointer(context, b, types_[13], C, co)
            ko = pointer(context, b, types_[5], ko, ir.Constant(INT, 0))
            a_rows, c_rows, sums = [], [], []
            for i in range(rows):
                row = b.add(r, ir.Constant(INT, i))
                row = b.select(b.icmp_signed("<", row, last), row, last)
                a_rows.append(b.gep(A, [b.load(pointer(context, b, types_[2], ro, row))]))
                c_rows.append(b.gep(C, [b.mul(b.sub(row, r), ldc)]))
                start = b.gep(S, [b.mul(b.sub(row, r), lds)])
                sums.append([V.load(start, j) for j in range(vectors)])
            first, before, loop, after = (
                b.load(ko),
                b.block,
                b.append_basic_block("loop"),
                b.append_basic_block("after"),
            )
            b.branch(loop)

            b.position_at_end(loop)
            k, panel = b.phi(INT), b.phi(B.type)
            k.add_incoming(ir.Constant(INT, 0), before)
            panel.add_incoming(B, before)
            offset = b.phi(INT)
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
            k_next = b.add(k, one())
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
