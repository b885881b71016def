// Runs generated CUDA C on a CPU: every thread of a block is a fiber that really runs, warps are scheduled
// one after the other, barriers and shuffles switch. Three orders of scheduling (forward, reverse, random) and shared
// memory full of NaN show missing barriers; a shuffle that half a warp reaches aborts.
//
//     g++ -std=c++20 -O1 -ffp-contract=off -fno-strict-aliasing -shared -fPIC -include shim.h -x c++ kernels.cu
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <tuple>
#include <utility>
#ifdef SHIM_UCONTEXT
#include <ucontext.h>
#endif
#define RLC_CPU_SHIM 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("rlc_shared")))
#define __constant__ static
#define RLC_DYN_SHARED(T, name) T* name = (T*)rlc::dyn_smem
struct dim3 { unsigned x, y, z; dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {} };
struct uint3 { unsigned x, y, z; };
extern "C" char __start_rlc_shared[] __attribute__((weak)), __stop_rlc_shared[] __attribute__((weak));

namespace rlc {
enum Wait : uint8_t { RUN, WARP, BLOCK, DONE };
struct Fiber { void* sp; char* stack;
#ifdef SHIM_UCONTEXT
  ucontext_t uc;
#endif
  uint3 tid; Wait w; uint32_t mask; unsigned par; };
static constexpr int MAXT = 1024; static constexpr size_t STK = 64 << 10;
static Fiber fb[MAXT]; static Fiber* cur; static void* main_sp;
#ifdef SHIM_UCONTEXT
static ucontext_t main_uc;
#endif
static uint64_t slot[2][MAXT];
static char* dyn_smem; static int nthr; static uint64_t switches;
static void (*body)(void*); static void* body_arg;
static inline int lin() { return int(cur - fb); }

#ifndef SHIM_UCONTEXT
extern "C" void rlc_switch(void** save, void* to);
asm(R"(.text
.globl rlc_switch
.type rlc_switch,@function
rlc_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp,(%rdi); movq %rsi,%rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size rlc_switch,.-rlc_switch)");
static inline void to_main() { rlc_switch(&cur->sp, main_sp); }
static inline void to_fiber(Fiber* f) { cur = f; switches++; rlc_switch(&main_sp, f->sp); }
#else
static inline void to_main() { swapcontext(&cur->uc, &main_uc); }
static inline void to_fiber(Fiber* f) { cur = f; switches++; swapcontext(&main_uc, &f->uc); }
#endif
static void entry() { body(body_arg); cur->w = DONE; for (;;) to_main(); }
static void arm(Fiber& f) {
  f.w = RUN; f.par = 0;
#ifndef SHIM_UCONTEXT
  void** s = (void**)(f.stack + STK - (size_t)((&f - fb) % 61) * 64);  // colour the stacks: no L1 set aliasing
  *--s = nullptr; *--s = (void*)entry; s -= 6; std::memset(s, 0, 48); f.sp = s;
#else
  getcontext(&f.uc); f.uc.uc_stack.ss_sp = f.stack; f.uc.uc_stack.ss_size = STK; f.uc.uc_link = &main_uc; makecontext(&f.uc, entry, 0);
#endif
}
[[noreturn]] static void die(const char* m, int t) { std::fprintf(stderr, "shim: %s (thread %d)\n", m, t); std::abort(); }
// order: 0 forward, 1 reverse, else pseudo-random: results that change show a missing barrier.
static int order = 0;
static void run_block() {
  for (int i = 0; i < nthr; i++) arm(fb[i]);
  for (char* p = __start_rlc_shared; p < __stop_rlc_shared; p++) *p = (char)0xff;   // NaN poison
  const int nw = (nthr + 31) / 32; uint32_t rnd = 12345u + (uint32_t)order;
  for (;;) {
    int live = 0;
    for (int w0 = 0; w0 < nw; w0++) {
      int w = order == 1 ? nw - 1 - w0 : w0; Fiber* W = fb + w * 32; int n = nthr - w * 32 < 32 ? nthr - w * 32 : 32;
      for (;;) {                                   // run the warp until every lane is at a block barrier or done
        bool any = false; unsigned x = order > 1 ? (rnd = rnd * 1664525u + 1013904223u) >> 27 : order == 1 ? 31 : 0;
        for (int l0 = 0; l0 < 32; l0++) { int l = l0 ^ (int)x; if (l < n && W[l].w == RUN) { to_fiber(&W[l]); any = true; } }
        uint32_t at = 0, m = 0; for (int l = 0; l < n; l++) if (W[l].w == WARP) { at |= 1u << l; m |= W[l].mask; }
        if (at) {
          uint32_t alive = 0; for (int l = 0; l < n; l++) if (W[l].w != DONE) alive |= 1u << l;
          if ((m & alive) != at) die("divergent warp sync", w * 32);
          for (int l = 0; l < n; l++) if (W[l].w == WARP) W[l].w = RUN;
        } else if (!any) break;
      }
      for (int l = 0; l < n; l++) live += W[l].w == BLOCK;
    }
    if (!live) return;
    for (int i = 0; i < nthr; i++) if (fb[i].w == BLOCK) fb[i].w = RUN;
  }
}
template <class T> static inline T shfl(uint32_t mask, T v, int src) {
  static_assert(sizeof(T) <= 8, ""); int t = lin(); auto& s = slot[cur->par ^= 1];
  std::memcpy(&s[t], &v, sizeof(T)); cur->w = WARP; cur->mask = mask; to_main();
  T r; std::memcpy(&r, &s[(t & ~31) | (src & 31)], sizeof(T)); return r;
}
template <class... A> static void launch(void (*k)(A...), dim3 g, dim3 b, size_t smem, A... a);
}  // namespace rlc
static uint3 rlc_bid; static dim3 rlc_gdim, rlc_bdim;
#define threadIdx (rlc::cur->tid)
#define blockIdx rlc_bid
#define blockDim rlc_bdim
#define gridDim rlc_gdim
#define warpSize 32
static inline void __syncthreads() { rlc::cur->w = rlc::BLOCK; rlc::to_main(); }
static inline void __syncwarp(uint32_t m = ~0u) { rlc::cur->w = rlc::WARP; rlc::cur->mask = m; rlc::to_main(); }
template <class T> static inline T __shfl_sync(uint32_t m, T v, int s, int = 32) { return rlc::shfl(m, v, s); }
template <class T> static inline T __shfl_xor_sync(uint32_t m, T v, int o, int = 32) { return rlc::shfl(m, v, (rlc::lin() & 31) ^ o); }
template <class T> static inline T __shfl_down_sync(uint32_t m, T v, int o, int = 32) { int l = rlc::lin() & 31; return rlc::shfl(m, v, l + o < 32 ? l + o : l); }
template <class T> static inline T __shfl_up_sync(uint32_t m, T v, int o, int = 32) { int l = rlc::lin() & 31; return rlc::shfl(m, v, l - o >= 0 ? l - o : l); }
template <class T> static inline T atomicAdd(T* p, T v) { T o = *p; *p = o + v; return o; }
template <class T> static inline T atomicMax(T* p, T v) { T o = *p; if (v > o) *p = v; return o; }
template <class T> static inline T __ldg(const T* p) { return *p; }
static inline double __longlong_as_double(long long v) { double f; std::memcpy(&f, &v, 8); return f; }
static inline long long __double_as_longlong(double v) { long long f; std::memcpy(&f, &v, 8); return f; }
static inline float __int_as_float(int v) { float f; std::memcpy(&f, &v, 4); return f; }
static inline int __float_as_int(float v) { int f; std::memcpy(&f, &v, 4); return f; }
#define __expf expf
#define __logf logf
static inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
static inline float __fdividef(float a, float b) { return a / b; }
template <class A, class B> static inline auto min(A a, B b) { return a < b ? a : b; }
template <class A, class B> static inline auto max(A a, B b) { return a > b ? a : b; }
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) float2 { float x, y; };
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
struct __nv_bfloat16 { uint16_t b; };
static inline float __bfloat162float(__nv_bfloat16 v) { return __int_as_float((int)((uint32_t)v.b << 16)); }
static inline __nv_bfloat16 __float2bfloat16(float f) { uint32_t u = (uint32_t)__float_as_int(f); if (f != f) return {0x7fff}; return {(uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16)}; }
namespace rlc {
template <class... A> struct Call { void (*k)(A...); std::tuple<A...> a; };
template <class... A> static void launch(void (*k)(A...), dim3 g, dim3 b, size_t smem, A... a) {
  nthr = int(b.x * b.y * b.z); if (nthr > MAXT) die("block too large", nthr);
  static char* pool = nullptr;
  if (!pool) pool = (char*)mmap(nullptr, STK * MAXT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  static Call<A...> c; c = {k, std::tuple<A...>(a...)}; body_arg = &c;
  body = [](void* p) { auto* c = (Call<A...>*)p; std::apply(c->k, c->a); };
  dyn_smem = (char*)std::realloc(dyn_smem, smem + 64); rlc_gdim = g; rlc_bdim = b;
  for (int i = 0; i < nthr; i++) { fb[i].stack = pool + STK * i; fb[i].tid = {i % b.x, i / b.x % b.y, i / (b.x * b.y)}; }
  for (unsigned z = 0; z < g.z; z++) for (unsigned y = 0; y < g.y; y++) for (unsigned x = 0; x < g.x; x++) {
    rlc_bid = {x, y, z}; std::memset(dyn_smem, 0xff, smem); run_block(); }
}
template <class... A, size_t... I> static void launch_args(void (*k)(A...), dim3 g, dim3 b, size_t s, void** p, std::index_sequence<I...>) { launch<A...>(k, g, b, s, *(std::decay_t<A>*)p[I]...); }
}  // namespace rlc
// Same argument convention as cuLaunchKernel: an array of pointers to the arguments.
#define RLC_CPU_ENTRY(k) extern "C" void k##__cpu(unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, size_t smem, void** args, int ord) { \
  rlc::order = ord; [&]<class... A>(void (*f)(A...)) { rlc::launch_args<A...>(f, dim3(gx, gy, gz), dim3(bx, by, bz), smem, args, std::index_sequence_for<A...>{}); }(k); }
