// Which instruction set the kernels run with: chosen once at run time, or forced.
//
// Every source under isa/ is compiled once per level into its own namespace (HASHFOLD_ISA). A
// kernel family names its functions in a table of pointers; select() picks the table of the level
// in force.
#pragma once

namespace hashfold {

// avx512_bf16: with the dot products of 16-bit floats and of 8-bit integers.
enum class Isa { baseline, avx2, avx512, avx512_bf16 };

const char* isa_name(Isa level);
bool isa_supported(Isa level);  // compiled in, and this machine has it
Isa isa_active();
bool isa_multiplies_bf16();  // the level in force has bfloat16 dot products, twice as fast as fp32's

// Takes a level by name; false if the name is unknown or the level is not supported here.
bool isa_force(const char* name);

}  // namespace hashfold

// Declares `const Table& function()` for each level and `function()` that picks the one in force.
#if defined(__x86_64__)
#define HASHFOLD_DISPATCH(Table, function)      \
    namespace baseline {                        \
    const Table& function();                    \
    }                                           \
    namespace avx2 {                            \
    const Table& function();                    \
    }                                           \
    namespace avx512 {                          \
    const Table& function();                    \
    }                                           \
    namespace avx512_bf16 {                     \
    const Table& function();                    \
    }                                           \
    inline const Table& function() {            \
        switch (isa_active()) {                 \
            case Isa::avx512_bf16:              \
                return avx512_bf16::function(); \
            case Isa::avx512:                   \
                return avx512::function();      \
            case Isa::avx2:                     \
                return avx2::function();        \
            default:                            \
                return baseline::function();    \
        }                                       \
    }
#else
#define HASHFOLD_DISPATCH(Table, function) \
    namespace baseline {                   \
    const Table& function();               \
    }                                      \
    inline const Table& function() {       \
        return baseline::function();       \
    }
#endif
