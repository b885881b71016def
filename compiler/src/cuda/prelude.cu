typedef long long i64;
typedef unsigned int u32;
typedef unsigned long long u64;

#define RLC __device__ __forceinline__

// Numbers.

RLC double rlc_inf() { return __longlong_as_double(0x7ff0000000000000ll); }
RLC double rlc_nan() { return __longlong_as_double(0x7ff8000000000000ll); }
// A piece may hold some of a coarse row's rows only.
RLC i64 rlc_later(u32 start, i64 begin) { return start > begin ? start : begin; }
RLC i64 rlc_sooner(u32 stop, i64 end) { return stop < end ? stop : end; }
RLC int rlc_truth(bool b) { return b ? 1 : 0; }
// Whether a number is one of the first `count` whole ones.
RLC bool rlc_is_row(double x, i64 count) { return x >= 0.0 && x < (double)count && x == trunc(x); }

struct rlc_bf16 { unsigned short bits; };
struct rlc_f16 { unsigned short bits; };
RLC float rlc_widen(float x) { return x; }
RLC double rlc_widen(double x) { return x; }
RLC float rlc_widen(rlc_bf16 x) { return __int_as_float((int)((u32)x.bits << 16)); }
#ifdef RLC_CPU_SHIM
// In words what a GPU has instructions for; both round to nearest, ties to even, and keep a NaN one.
RLC float rlc_widen(rlc_f16 x) {
    // The exponent is 112 too small for an f32, subnormals included; 31 means 255.
    const u32 rest = (u32)(x.bits & 0x7fff) << 13;
    const float size = rest >= (31u << 23) ? __int_as_float((int)(rest | 0x7f800000u))
                                           : __int_as_float((int)rest) * __int_as_float(239 << 23);
    return x.bits & 0x8000 ? -size : size;
}
RLC void rlc_narrow(rlc_bf16& to, real x) {
    const u32 bits = (u32)__float_as_int((float)x);
    to.bits = x != x ? 0x7fc0 : (unsigned short)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
RLC void rlc_narrow(rlc_f16& to, real x) {
    const float f = (float)x;
    const u32 bits = (u32)__float_as_int(f), sign = (bits >> 16) & 0x8000u, size = bits & 0x7fffffffu;
    u32 out;
    if (f != f) out = 0x7e00u;
    else if (size >= 0x477ff000u) out = 0x7c00u;
    else if (size < 0x38800000u) {
        // Subnormal: adding 0.5 puts the last place of an f16 at that of an f32.
        out = (u32)__float_as_int(__int_as_float((int)size) + 0.5f) - 0x3f000000u;
    } else out = ((size + 0xfffu + ((size >> 13) & 1u)) >> 13) - (112u << 10);
    to.bits = (unsigned short)(out | sign);
}
#else
RLC float rlc_widen(rlc_f16 x) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
    return wide;
}
RLC void rlc_narrow(rlc_bf16& to, real x) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to.bits) : "f"((float)x)); }
RLC void rlc_narrow(rlc_f16& to, real x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"((float)x)); }
#endif
RLC void rlc_narrow(float& to, real x) { to = (float)x; }
RLC void rlc_narrow(double& to, real x) { to = (double)x; }
template <class T> RLC real rlc_entry(const T* row, i64 i) { return (real)rlc_widen(row[i]); }
RLC double rlc_entry(const double* row, i64 i) { return row[i]; }

// Operators, for rows (f64) and for entries (f32).

RLC double rlc_exp(double x) { return exp(x); }
RLC float rlc_exp(float x) { return expf(x); }
RLC double rlc_log(double x) { return log(x); }
RLC float rlc_log(float x) { return logf(x); }
RLC double rlc_log1p(double x) { return log1p(x); }
RLC float rlc_log1p(float x) { return log1pf(x); }
RLC double rlc_expm1(double x) { return expm1(x); }
RLC float rlc_expm1(float x) { return expm1f(x); }
RLC double rlc_log2(double x) { return log2(x); }
RLC float rlc_log2(float x) { return log2f(x); }
RLC double rlc_sqrt(double x) { return sqrt(x); }
RLC float rlc_sqrt(float x) { return sqrtf(x); }
RLC double rlc_abs(double x) { return fabs(x); }
RLC float rlc_abs(float x) { return fabsf(x); }
RLC double rlc_tanh(double x) { return tanh(x); }
RLC float rlc_tanh(float x) { return tanhf(x); }
RLC double rlc_sin(double x) { return sin(x); }
RLC float rlc_sin(float x) { return sinf(x); }
RLC double rlc_cos(double x) { return cos(x); }
RLC float rlc_cos(float x) { return cosf(x); }
RLC double rlc_floor(double x) { return floor(x); }
RLC float rlc_floor(float x) { return floorf(x); }
RLC double rlc_ceil(double x) { return ceil(x); }
RLC float rlc_ceil(float x) { return ceilf(x); }
RLC double rlc_round(double x) { return rint(x); }
RLC float rlc_round(float x) { return rintf(x); }
RLC double rlc_trunc(double x) { return trunc(x); }
RLC float rlc_trunc(float x) { return truncf(x); }
RLC double rlc_pow(double a, double b) { return pow(a, b); }
RLC float rlc_pow(float a, float b) { return powf(a, b); }
RLC float rlc_fma(float a, float b, float c) { return fmaf(a, b, c); }
RLC double rlc_fma(double a, double b, double c) { return fma(a, b, c); }
template <class T> RLC T rlc_not(T x) { return x == 0 ? (T)1 : (T)0; }
template <class T> RLC T rlc_sign(T x) { return x > 0 ? (T)1 : x < 0 ? (T)-1 : x + (T)0; }
template <class T> RLC T rlc_relu(T x) { return x < 0 ? (T)0 : x; }
template <class T> RLC T rlc_isfinite(T x) { return x - x == 0 ? (T)1 : (T)0; }
template <class T> RLC T rlc_isnan(T x) { return x != x ? (T)1 : (T)0; }
template <class T> RLC T rlc_softplus(T x) {
    return x > 0 ? x + rlc_log1p(rlc_exp(-x)) : rlc_log1p(rlc_exp(x));
}
template <class T> RLC T rlc_log_sigmoid(T x) { return -rlc_softplus(-x); }
template <class T> RLC T rlc_sigmoid(T x) {
    if (x >= 0) return 1 / (1 + rlc_exp(-x));
    const T e = rlc_exp(x);
    return e / (1 + e);
}
template <class T> RLC T rlc_log1mexp(T x) {
    return x > (T)-0.69314718055994531 ? rlc_log(-rlc_expm1(x)) : rlc_log1p(-rlc_exp(x));
}
template <class T> RLC T rlc_floor_div(T a, T b) { return rlc_floor(a / b); }
template <class T> RLC T rlc_mod(T a, T b) { return a - b * rlc_floor(a / b); }
template <class T> RLC T rlc_min(T a, T b) { return a < b || a != a ? a : b; }
template <class T> RLC T rlc_max(T a, T b) { return a > b || a != a ? a : b; }
template <class T> RLC T rlc_and(T a, T b) { return a != 0 && b != 0 ? (T)1 : (T)0; }
template <class T> RLC T rlc_or(T a, T b) { return a != 0 || b != 0 ? (T)1 : (T)0; }
// An adjoint of 0 gives 0, whatever the derivative is.
template <class T> RLC T rlc_chain(T a, T b) { return a == 0 ? (T)0 : a * b; }

// Folds. An accumulator holds the value; for a log-sum-exp the largest and the sum of exp(x - largest).

enum { RLC_SUM, RLC_PROD, RLC_MAX, RLC_MIN, RLC_LOGSUMEXP };
struct rlc_acc { double x, scale; };

template <int OP> RLC rlc_acc rlc_nothing() {
    rlc_acc a;
    a.x = OP == RLC_SUM ? 0.0 : OP == RLC_PROD ? 1.0 : OP == RLC_MIN ? rlc_inf() : -rlc_inf();
    a.scale = 0.0;
    return a;
}
RLC double rlc_shrunk(double scale, double from, double to) {
    // Of nothing there is nothing; equal infinities do not shrink.
    return scale == 0.0 ? 0.0 : from == to ? scale : scale * exp(from - to);
}
template <int OP> RLC rlc_acc rlc_join(const rlc_acc a, const rlc_acc b) {
    rlc_acc c = a;
    if (OP == RLC_SUM) c.x = a.x + b.x;
    if (OP == RLC_PROD) c.x = a.x * b.x;
    if (OP == RLC_MAX) c.x = rlc_max(a.x, b.x);
    if (OP == RLC_MIN) c.x = rlc_min(a.x, b.x);
    if (OP == RLC_LOGSUMEXP) {
        // NaN is above nothing; it shows in the scale.
        c.x = b.x > a.x ? b.x : a.x;
        c.scale = rlc_shrunk(a.scale, a.x, c.x) + rlc_shrunk(b.scale, b.x, c.x);
    }
    return c;
}
template <int OP> RLC rlc_acc rlc_single(double x) {
    rlc_acc a = {x, 0.0};
    if (OP == RLC_LOGSUMEXP) {
        a.scale = x == -rlc_inf() ? 0.0 : x != x ? x : 1.0;
        if (x != x) a.x = -rlc_inf();
    }
    return a;
}
// Into memory; `scale` only for a log-sum-exp.
template <int OP> RLC void rlc_keep(double* into, double* scale, i64 row, const rlc_acc a) {
    rlc_acc old = {into[row], scale ? scale[row] : 0.0};
    old = rlc_join<OP>(old, a);
    into[row] = old.x;
    if (scale) scale[row] = old.scale;
}
template <int OP> RLC void rlc_fold_in(double* into, double* scale, i64 row, double x) {
    rlc_keep<OP>(into, scale, row, rlc_single<OP>(x));
}
// All lanes of a warp, in a tree of fixed shape; each gets the result.
template <int OP> RLC rlc_acc rlc_warp(rlc_acc a) {
    for (int by = 16; by > 0; by /= 2) {
        rlc_acc b;
        b.x = __shfl_xor_sync(0xffffffffu, a.x, by);
        b.scale = OP == RLC_LOGSUMEXP ? __shfl_xor_sync(0xffffffffu, a.scale, by) : 0.0;
        const bool low = (threadIdx.x & by) == 0;
        a = low ? rlc_join<OP>(a, b) : rlc_join<OP>(b, a);
    }
    return a;
}
template <int OP>
RLC void rlc_fold_row(double* into, double* scale, i64 row, const double* part, i64 first, i64 last) {
    rlc_acc a = rlc_nothing<OP>();
    for (i64 i = first + (threadIdx.x & 31); i < last; i += 32) a = rlc_join<OP>(a, rlc_single<OP>(part[i]));
    a = rlc_warp<OP>(a);
    if ((threadIdx.x & 31) == 0) rlc_keep<OP>(into, scale, row, a);
}
// All threads of a block; each gets the result.
__shared__ rlc_acc rlc_warps[32];
template <int OP> RLC rlc_acc rlc_block(rlc_acc a) {
    a = rlc_warp<OP>(a);
    __syncthreads();
    if ((threadIdx.x & 31) == 0) rlc_warps[threadIdx.x / 32] = a;
    __syncthreads();
    a = rlc_warps[0];
    for (int w = 1; w < (int)blockDim.x / 32; w++) a = rlc_join<OP>(a, rlc_warps[w]);
    return a;
}
template <int OP> RLC double rlc_block_fold(double x) {
    const rlc_acc a = {x, 0.0};
    return rlc_block<OP>(a).x;
}
template <int OP> RLC void rlc_fold_parts(double* partials, const double* part, i64 begin, i64 end) {
    const i64 rows = (end - begin + gridDim.x - 1) / gridDim.x;
    const i64 first = begin + rows * blockIdx.x, last = first + rows < end ? first + rows : end;
    rlc_acc a = rlc_nothing<OP>();
    for (i64 i = first + threadIdx.x; i < last; i += blockDim.x) a = rlc_join<OP>(a, rlc_single<OP>(part[i]));
    a = rlc_block<OP>(a);
    if (threadIdx.x == 0) { partials[2 * blockIdx.x] = a.x; partials[2 * blockIdx.x + 1] = a.scale; }
}
template <int OP> RLC void rlc_fold_partials(double* into, double* scale, const double* partials, int parts) {
    if (threadIdx.x >= 32) return;
    rlc_acc a = rlc_nothing<OP>();
    for (int i = threadIdx.x; i < parts; i += 32) {
        const rlc_acc b = {partials[2 * i], partials[2 * i + 1]};
        a = rlc_join<OP>(a, b);
    }
    a = rlc_warp<OP>(a);
    if (threadIdx.x == 0) rlc_keep<OP>(into, scale, 0, a);
}

// Entries of a row, 16 bytes at a time.

template <class T, int N> struct alignas(sizeof(T) * N >= 16 ? 16 : sizeof(T) * N) rlc_pack { T x[N]; };
// NaN is above nothing.
RLC float rlc_top(float a, float b) { return fmaxf(a, b); }
RLC double rlc_top(double a, double b) { return fmax(a, b); }
// The largest of sign times each.
template <class T, int N> RLC real rlc_largest(const rlc_pack<T, N>& from, real sign) {
    real top = (real)-rlc_inf();
    #pragma unroll
    for (int k = 0; k < N; k++) {
        const real key = sign * (real)rlc_widen(from.x[k]);
        top = rlc_top(top, key);
    }
    return top;
}
template <class T> RLC bool rlc_aligned(const T* row) { return ((u64)row & 15) == 0; }

// A log-sum-exp over s * entries, of which one thread has seen some: the largest s * e, the sum of
// w = exp(a (s e - base)), and means under it. The base is the largest, or 0 where that is infinite: then the sum is, or
// there is none.
struct rlc_softmax {
    real most, base, scale;
    RLC void clear() { most = (real)-rlc_inf(); base = 0; scale = 0; }
    RLC void rise(real top) { most = top; base = top - top == 0 ? top : (real)0; }
};
// Where a e + b is 0, to the precision of an entry; 0 where that is nowhere.
RLC real rlc_root(double a, double b) {
    const double root = -b / a;
    return root - root == 0.0 && fabs(root) < 1e30 ? (real)root : (real)0;
}

// Sums over the rows below a token.

RLC void rlc_spread(double* row, i64 vocab, const double* d, const double* index, i64 first, i64 last) {
    __syncthreads();
    for (i64 i = threadIdx.x; i < vocab; i += blockDim.x) row[i] = 0.0;
    __syncthreads();
    if (threadIdx.x == 0)
        for (i64 r = first; r < last; r++)
            if (rlc_is_row(index[r], vocab)) row[(i64)index[r]] += d[r];
    __syncthreads();
}
RLC double rlc_spread_at(double at, i64 vocab, const double* d, const double* index, i64 first, i64 last) {
    double sum = 0.0;
    if (at < (double)vocab)
        for (i64 r = first; r < last; r++)
            if (index[r] == at) sum += d[r];
    return sum;
}

// The entry that comes n-th by falling value, ties in order: a digit of 8 bits at a time.

RLC u64 rlc_falling(double x) {
    // Sorts as the numbers do from the largest on; zeros are equal, NaN is last.
    if (x != x) return ~0ull;
    const u64 bits = (u64)__double_as_longlong(x + 0.0);
    return bits >> 63 ? bits : ~(bits | 1ull << 63);
}
__shared__ u32 rlc_found[256];
__shared__ u64 rlc_known;
__shared__ i64 rlc_rest, rlc_answer, rlc_counts[1024];
RLC double rlc_nth(const double* row, i64 vocab, double n) {
    if (!(n >= 1.0) || vocab == 0) return -1.0;
    i64 place = (n < (double)vocab ? (i64)n : vocab) - 1;
    u64 mask = 0, prefix = 0;
    for (int shift = 56; shift >= 0; shift -= 8) {
        __syncthreads();
        for (int i = threadIdx.x; i < 256; i += blockDim.x) rlc_found[i] = 0;
        __syncthreads();
        for (i64 i = threadIdx.x; i < vocab; i += blockDim.x) {
            const u64 key = rlc_falling(row[i]);
            if ((key & mask) == prefix) atomicAdd(&rlc_found[(key >> shift) & 255], 1u);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            int digit = 0;
            while (place >= (i64)rlc_found[digit]) place -= rlc_found[digit++];
            rlc_known = prefix | (u64)digit << shift;
            rlc_rest = place;
        }
        __syncthreads();
        prefix = rlc_known;
        place = rlc_rest;
        mask |= 255ull << shift;
    }
    // Of those that have the value, the one that `place` others come before.
    __syncthreads();
    if (threadIdx.x == 0) rlc_answer = -1;
    const i64 share = (vocab + blockDim.x - 1) / blockDim.x;
    const i64 first = share * threadIdx.x < vocab ? share * threadIdx.x : vocab;
    const i64 last = first + share < vocab ? first + share : vocab;
    i64 own = 0;
    for (i64 i = first; i < last; i++) own += rlc_falling(row[i]) == prefix ? 1 : 0;
    // Counts are small enough to be exact.
    i64 before = 0;
    rlc_counts[threadIdx.x] = own;
    __syncthreads();
    for (int t = 0; t < (int)threadIdx.x; t++) before += rlc_counts[t];
    if (before <= place && place < before + own)
        for (i64 i = first; i < last; i++)
            if (rlc_falling(row[i]) == prefix && before++ == place) { rlc_answer = i; break; }
    __syncthreads();
    return (double)rlc_answer;
}
