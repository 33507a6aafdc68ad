#include <nanobind/ndarray.h>

#include "core/huge_pages.hpp"
#include "core/isa.hpp"
#include "core/parallel.hpp"
#include "families.hpp"

namespace hashfold {

namespace nb = nanobind;
using namespace nb::literals;

void bind_runtime(nb::module_& m) {
    m.def("num_threads", &num_threads);
    m.def("set_num_threads", &set_num_threads, "count"_a);
    m.def("isa", [] { return isa_name(isa_active()); });
    m.def("isa_levels", [] {
        nb::list levels;
        for (Isa level : {Isa::baseline, Isa::avx2, Isa::avx512, Isa::avx512_bf16})
            if (isa_supported(level)) levels.append(isa_name(level));
        return levels;
    });
    m.def("isa_multiplies_bf16", &isa_multiplies_bf16);
    m.def(
        "wish_huge_pages",
        [](const nb::ndarray<nb::c_contig, nb::device::cpu>& array) {
            wish_huge_pages(array.data(), array.nbytes());
        },
        "array"_a.noconvert());
    m.def("force_isa", &isa_force, "name"_a);
}

}  // namespace hashfold
