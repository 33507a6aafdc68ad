// What one thread of this machine can do at most, as JSON: for kernels.limits, which compiles it for the machine.
// Rates a CPU-second, the best of seven tries.
#include <immintrin.h>
#include <sys/mman.h>
#include <time.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

double now() {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

// Units a second of a body that returns how many it did.
template <class Body>
double best_rate(const Body& body) {
    double best = 0;
    for (int i = 0; i < 7; ++i) {
        const double start = now(), units = body();
        best = std::fmax(best, units / (now() - start));
    }
    return best;
}

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#else
constexpr int kBytes = 32;
#endif
typedef float Floats __attribute__((vector_size(kBytes)));
typedef int32_t Ints __attribute__((vector_size(kBytes)));
constexpr int kLanes = kBytes / 4;

// Sums in registers that no multiplication waits for; `per_lane` operations a lane and call.
template <class V, class Add>
double products(double per_lane, const Add& add) {
    return best_rate([&] {
        constexpr int sums = kBytes == 64 ? 24 : 12, rounds = 1'000'000;
        V s[sums] = {}, a{}, b{};
#pragma GCC unroll 24
        for (int k = 0; k < sums; ++k) asm volatile("" : "+v"(s[k]));  // each of its own
        for (int i = 0; i < rounds; ++i) {
            asm volatile("" : "+v"(a), "+v"(b));  // they may be others each time
#pragma GCC unroll 24
            for (int k = 0; k < sums; ++k) s[k] = add(s[k], a, b);
        }
        V all{};
        for (int k = 0; k < sums; ++k) all += s[k];
        asm volatile("" ::"v"(all));
        return per_lane * kLanes * sums * rounds;
    });
}

template <class T>
T* large(size_t count) {
    const size_t huge = size_t{2} << 20, bytes = (count * sizeof(T) + huge - 1) / huge * huge;
    void* memory = std::aligned_alloc(huge, bytes);
    if (!memory) std::exit(1);
    madvise(memory, bytes, MADV_HUGEPAGE);
    T* to = static_cast<T*>(memory);
    for (size_t i = 0; i < count; ++i) to[i] = T(1);
    return to;
}

std::vector<uint32_t> random_ids(size_t count, uint32_t below) {
    std::vector<uint32_t> ids(count);
    uint64_t state = 88172645463325252ull;
    for (auto& id : ids) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        id = static_cast<uint32_t>((state >> 32) * below >> 32);
    }
    return ids;
}

constexpr int64_t kRows = 670'091, kWidth = 128;  // 512 bytes a row

void ask_for(const float* row) {
    for (int64_t k = 0; k < kWidth; k += 16) __builtin_prefetch(row + k, 0, 2);
}

double read_rows(const float* table, const std::vector<uint32_t>& ids) {
    return best_rate([&] {
        Floats sum{};
        for (size_t i = 0; i + 16 < ids.size(); ++i) {
            ask_for(table + ids[i + 16] * kWidth);
            const auto* row = reinterpret_cast<const Floats*>(table + ids[i] * kWidth);
            for (int64_t k = 0; k < kWidth / kLanes; ++k) sum += row[k];
        }
        asm volatile("" ::"v"(sum));
        return static_cast<double>(ids.size() - 16);
    });
}

double move_rows(float* const* tables, const std::vector<uint32_t>& ids) {
    return best_rate([&] {
        for (size_t i = 0; i + 16 < ids.size(); ++i) {
            for (int t = 0; t < 3; ++t) ask_for(tables[t] + ids[i + 16] * kWidth);
            Floats* rows[3];
            for (int t = 0; t < 3; ++t) rows[t] = reinterpret_cast<Floats*>(tables[t] + ids[i] * kWidth);
            for (int64_t k = 0; k < kWidth / kLanes; ++k) {
                rows[0][k] -= rows[1][k] * rows[2][k];
                rows[1][k] *= 0.9f;
                rows[2][k] *= 0.99f;
            }
        }
        return static_cast<double>(ids.size() - 16);
    });
}

double read_bytes(const uint8_t* table, const std::vector<uint32_t>& ids) {
    return best_rate([&] {
        uint32_t sum = 0;
        for (size_t i = 0; i + 32 < ids.size(); ++i) {
            __builtin_prefetch(table + ids[i + 32]);
            sum += table[ids[i]];
        }
        asm volatile("" ::"r"(sum));
        return static_cast<double>(ids.size() - 32);
    });
}

double stream(const float* table, int64_t count) {
    return best_rate([&] {
        Floats sums[4] = {};
        const auto* at = reinterpret_cast<const Floats*>(table);
        for (int64_t i = 0; i + 4 <= count / kLanes; i += 4)
            for (int k = 0; k < 4; ++k) sums[k] += at[i + k];
        asm volatile("" ::"v"(sums[0] + sums[1] + sums[2] + sums[3]));
        return static_cast<double>(count) * sizeof(float);
    });
}

}  // namespace

int main() {
    const double fp32 = products<Floats>(2, [](Floats s, Floats a, Floats b) { return s + a * b; });
    double bf16 = 0, int8 = 0;
#if defined(__AVX512BF16__)
    bf16 = products<Floats>(4, [](Floats s, Floats a, Floats b) {
        return (Floats)_mm512_dpbf16_ps((__m512)s, (__m512bh)a, (__m512bh)b);
    });
#endif
#if defined(__AVX512VNNI__)
    int8 = products<Ints>(8, [](Ints s, Ints a, Ints b) {
        return (Ints)_mm512_dpbusd_epi32((__m512i)s, (__m512i)a, (__m512i)b);
    });
#endif
    float* tables[3];
    for (float*& table : tables) table = large<float>(kRows * kWidth);
    const auto rows = random_ids(100'000, kRows);
    const double streamed = stream(tables[0], kRows * kWidth), read = read_rows(tables[0], rows);
    const double moved = move_rows(tables, rows);
    const uint32_t bytes = 1u << 26;
    const double byte = read_bytes(large<uint8_t>(bytes), random_ids(1'000'000, bytes));
    std::printf("{\"fp32_flops\": %g, \"bf16_flops\": %g, \"int8_operations\": %g, \"bytes_read\": %g, "
                "\"random_rows_read\": %g, \"random_rows_moved\": %g, \"random_bytes_read\": %g}\n",
                fp32, bf16, int8, streamed, read, moved, byte);
}
