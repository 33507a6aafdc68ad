#include "isa.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace hashfold {
namespace {

constexpr Isa levels[] = {Isa::avx512_bf16, Isa::avx512, Isa::avx2, Isa::baseline};

Isa best_level() {
    for (Isa level : levels)
        if (isa_supported(level)) return level;
    return Isa::baseline;
}

std::atomic<Isa>& active() {
    static std::atomic<Isa> level{best_level()};
    return level;
}

}  // namespace

const char* isa_name(Isa level) {
    switch (level) {
        case Isa::avx512_bf16:
            return "avx512_bf16";
        case Isa::avx512:
            return "avx512";
        case Isa::avx2:
            return "avx2";
        default:
            return "baseline";
    }
}

bool isa_supported(Isa level) {
#if defined(__x86_64__)
    switch (level) {
        case Isa::avx512_bf16:
            return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni") &&
                   isa_supported(Isa::avx512);
        case Isa::avx512:
            return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                   isa_supported(Isa::avx2);
        case Isa::avx2:
            return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        default:
            return true;
    }
#else
    return level == Isa::baseline;
#endif
}

Isa isa_active() {
    return active().load(std::memory_order_relaxed);
}

bool isa_multiplies_bf16() {
    return isa_active() == Isa::avx512_bf16;
}

bool isa_force(const char* name) {
    for (Isa level : levels) {
        if (std::strcmp(name, isa_name(level)) != 0) continue;
        if (!isa_supported(level)) return false;
        active().store(level);
        return true;
    }
    return false;
}

}  // namespace hashfold
