// How arrays cross from Python: C-contiguous CPU arrays of the exact type, never converted, so that
// an output is always the caller's own memory. Shapes were checked in Python; what is asserted here
// only guards against our own mistakes.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <stdexcept>
#include <string>

#include "core/views.hpp"

namespace hashfold {

namespace nb = nanobind;
using namespace nb::literals;

template <class T>
using Array1 = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Array2 = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <class T>
using Array3 = nb::ndarray<T, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

using GilRelease = nb::call_guard<nb::gil_scoped_release>;

template <class T>
Matrix<T> matrix(const Array2<T>& a) {
    return {a.data(), static_cast<int64_t>(a.shape(0)), static_cast<int64_t>(a.shape(1))};
}

template <class T>
int64_t length(const Array1<T>& a) {
    return static_cast<int64_t>(a.shape(0));
}

inline void require(bool condition, const char* what) {
    if (!condition) throw std::logic_error(std::string("hashfold internal error: ") + what);
}

template <class T>
Csr<T> csr(const Array1<const int64_t>& indptr, const Array1<const int32_t>& indices,
           const Array1<const T>& values) {
    require(length(indptr) >= 1, "indptr is empty");
    require(length(indices) == length(values), "indices and values differ in length");
    require(indptr.data()[length(indptr) - 1] <= length(indices), "indptr points behind the entries");
    return {indptr.data(), indices.data(), values.data(), length(indptr) - 1};
}

}  // namespace hashfold
