#include "quantized.hpp"

#include "families.hpp"

namespace hashfold {
namespace {

template <class X, class Codes, class Scales>
void check(const X& x, const Codes& codes, const Scales& scales) {
    require(x.shape(0) == codes.shape(0) && x.shape(1) == codes.shape(1), "shape of the codes");
    require(length(scales) == matrix(x).rows && matrix(x).cols <= kMostQuantizedColumns, "scales");
}

void quantize(Array2<const float> x, Array2<int8_t> codes, Array1<float> scales, Array1<int32_t> sums) {
    check(x, codes, scales);
    require(length(sums) == length(scales), "sums");
    quantize_rows(matrix(x), matrix(codes), scales.data(), sums.data());
}

void dequantize(Array2<const int8_t> codes, Array1<const float> scales, Array2<float> x) {
    check(x, codes, scales);
    dequantize_rows(matrix(codes), scales.data(), matrix(x));
}

void queries(Array2<const float> x, Array2<uint8_t> codes, Array1<float> scales, Array1<int32_t> zeros) {
    check(x, codes, scales);
    require(length(zeros) == length(scales), "zeros");
    quantize_queries(matrix(x), matrix(codes), scales.data(), zeros.data());
}

}  // namespace

void bind_quantized(nb::module_& m) {
    m.def("quantize_rows", &quantize, "x"_a.noconvert(), "codes"_a.noconvert(), "scales"_a.noconvert(),
          "sums"_a.noconvert(), GilRelease());
    m.def("dequantize_rows", &dequantize, "codes"_a.noconvert(), "scales"_a.noconvert(), "x"_a.noconvert(),
          GilRelease());
    m.def("quantize_queries", &queries, "x"_a.noconvert(), "codes"_a.noconvert(), "scales"_a.noconvert(),
          "zeros"_a.noconvert(), GilRelease());
}

}  // namespace hashfold
