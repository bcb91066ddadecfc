// What kernels.cu takes from CUDA, for a C++ compiler: a kernel is run thread after thread, its indices being the variables of two loops.
#include <cmath>
#include <cstddef>
#include <cstring>
#include <utility>

#define __global__
#define __device__
struct Index { unsigned x; };
static thread_local Index threadIdx, blockIdx, blockDim, gridDim;
using std::exp; using std::expm1; using std::fabs; using std::log; using std::log1p; using std::sqrt; using std::tanh;

template <class... A, std::size_t... I>
void call(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) { kernel(*(A *)arguments[I]...); }

template <class... A>
void run(void (*kernel)(A...), unsigned grid, unsigned block, void **arguments) {
    gridDim.x = grid, blockDim.x = block;
    for (blockIdx.x = 0; blockIdx.x < grid; blockIdx.x++)
        for (threadIdx.x = 0; threadIdx.x < block; threadIdx.x++)
            call(kernel, arguments, std::index_sequence_for<A...>());
}
