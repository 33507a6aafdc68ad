#include "core/hashed_linear.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "core/pruned_fit.hpp"
#include "families.hpp"
#include "owned.hpp"

namespace hashfold {
namespace {

using SparseStart = std::tuple<Array1<const int64_t>, Array1<const int32_t>, Array1<const float>>;

template <class T>
using OptionalArray1 = std::optional<Array1<T>>;

struct Layout {
    Array1<const int64_t> offsets;
    Array1<const int32_t> sizes;
    HashedLayout view;

    Layout(Array1<const int64_t> offsets_, Array1<const int32_t> sizes_, uint32_t seed, bool sign, bool identity)
        : offsets(offsets_), sizes(sizes_), view{offsets_.data(), sizes_.data(), seed, sign, identity} {
        require(length(offsets) == length(sizes), "offsets and sizes differ in length");
    }
    int64_t outputs() const { return length(sizes); }
    void require_within(int64_t num_buckets) const {
        for (int64_t o = 0; o < outputs(); ++o)
            require(sizes.data()[o] >= 0 && offsets.data()[o] >= 0 &&
                        offsets.data()[o] + sizes.data()[o] <= num_buckets,
                    "a block lies outside the buckets");
    }
};

ActiveRows pairs_of(const Array1<const int64_t>& indptr, const Array1<const int32_t>& ids, int64_t rows) {
    require(length(indptr) == rows + 1, "x and the pairs differ in rows");
    require(indptr.data()[rows] == length(ids), "indptr does not end at the pairs");
    return {indptr.data(), ids.data(), rows};
}

template <class T>
void forward(Array1<const int64_t> indptr, Array1<const int32_t> indices, Array1<const T> values,
             Array1<const int64_t> out_indptr, Array1<const int32_t> out_ids, const Layout& layout,
             Array1<const T> buckets, OptionalArray1<const T> bias, Array1<T> out) {
    const Csr<T> x = csr<T>(indptr, indices, values);
    require(length(out) == length(out_ids), "length of out");
    require(!bias || length(*bias) == layout.outputs(), "length of bias");
    layout.require_within(length(buckets));
    hashed_linear(x, pairs_of(out_indptr, out_ids, x.rows), layout.view, buckets.data(),
                  bias ? bias->data() : nullptr, out.data());
}

void forward_int8(Array1<const int64_t> indptr, Array1<const int32_t> indices, Array1<const float> values,
                  Array1<const int64_t> out_indptr, Array1<const int32_t> out_ids, const Layout& layout,
                  Array1<const int8_t> codes, Array1<const float> scales, Array1<const float> bias,
                  Array1<float> out) {
    const Csr<float> x = csr<float>(indptr, indices, values);
    require(length(out) == length(out_ids), "length of out");
    require(length(bias) == layout.outputs() && length(scales) == layout.outputs(), "length of bias and scales");
    layout.require_within(length(codes));
    hashed_linear(x, pairs_of(out_indptr, out_ids, x.rows), layout.view, codes.data(), scales.data(), bias.data(),
                  out.data());
}

template <class T>
void grad_values(Array1<const int64_t> indptr, Array1<const int32_t> indices, Array1<const T> values,
                 Array1<const int64_t> out_indptr, Array1<const int32_t> out_ids, const Layout& layout,
                 Array1<const T> buckets, Array1<const T> grad_out, Array1<T> grad) {
    const Csr<T> x = csr<T>(indptr, indices, values);
    require(length(grad) == length(values) && length(grad_out) == length(out_ids), "length of a gradient");
    layout.require_within(length(buckets));
    hashed_linear_grad_values(x, pairs_of(out_indptr, out_ids, x.rows), layout.view, buckets.data(),
                              grad_out.data(), grad.data());
}

template <class T>
void grad_buckets(Array1<const int64_t> indptr, Array1<const int32_t> indices, Array1<const T> values,
                  Array1<const int64_t> out_indptr, Array1<const int32_t> out_ids, const Layout& layout,
                  Array1<const T> grad_out, Array1<T> grad) {
    const Csr<T> x = csr<T>(indptr, indices, values);
    require(length(grad_out) == length(out_ids), "length of grad_out");
    layout.require_within(length(grad));
    hashed_linear_grad_buckets(x, pairs_of(out_indptr, out_ids, x.rows), layout.view, grad_out.data(), grad.data(),
                               length(grad));
}

FitTasks tasks_of(Array1<const int32_t> labels, Array1<const int64_t> indptr, Array1<const int32_t> rows,
                  Array1<const float> targets, int64_t num_rows, int64_t outputs) {
    require(length(indptr) == length(labels) + 1 && indptr.data()[length(labels)] == length(rows),
            "indptr of labels");
    require(length(rows) == length(targets), "rows and targets differ in length");
    for (int64_t k = 0; k < length(rows); ++k) require(rows.data()[k] >= 0 && rows.data()[k] < num_rows, "a row");
    std::vector<bool> seen(outputs);
    for (int64_t t = 0; t < length(labels); ++t) {
        const int32_t label = labels.data()[t];
        require(label >= 0 && label < outputs && !seen[label], "a label out of range, or twice");
        seen[label] = true;
    }
    return {labels.data(), indptr.data(), rows.data(), targets.data(), length(labels)};
}

void fit(Array1<const int64_t> indptr, Array1<const int32_t> indices, Array1<const float> values,
         Array1<const int32_t> labels, Array1<const int64_t> label_indptr, Array1<const int32_t> rows,
         Array1<const float> targets, const Layout& layout, const FitRule& rule, OptionalArray1<float> buckets,
         OptionalArray1<int8_t> codes, OptionalArray1<float> scales, Array1<float> bias, bool warm,
         Array1<double> losses) {
    const Csr<float> x = csr<float>(indptr, indices, values);
    require(buckets.has_value() != (codes && scales), "either buckets, or codes and scales");
    require(length(bias) == layout.outputs() && (!scales || length(*scales) == layout.outputs()),
            "length of bias");
    require(length(losses) == length(labels), "length of losses");
    layout.require_within(buckets ? length(*buckets) : length(*codes));
    hashed_linear_fit(x, tasks_of(labels, label_indptr, rows, targets, x.rows, layout.outputs()), layout.view,
                      rule,
                      {buckets ? buckets->data() : nullptr, codes ? codes->data() : nullptr,
                       scales ? scales->data() : nullptr, bias.data(), warm},
                      losses.data());
}

nb::tuple pruned(Array1<const int64_t> indptr, Array1<const int32_t> indices, Array1<const float> values,
                 int64_t num_features, Array1<const int32_t> labels, Array1<const int64_t> label_indptr,
                 Array1<const int32_t> rows, Array1<const float> targets, const FitRule& rule,
                 std::optional<SparseStart> start, float least, Array1<float> bias, Array1<double> losses) {
    const Csr<float> x = csr<float>(indptr, indices, values);
    const auto in_range = [&](const auto& ids) {
        return std::all_of(ids.data(), ids.data() + length(ids),
                           [&](int32_t f) { return f >= 0 && f < num_features; });
    };
    require(in_range(indices), "a feature is out of range");
    require(length(losses) == length(labels), "length of losses");
    const FitTasks tasks = tasks_of(labels, label_indptr, rows, targets, x.rows, length(bias));
    std::optional<Csr<float>> from;
    if (start) {
        const auto& [at, features, weights] = *start;
        from = csr<float>(at, features, weights);
        require(from->rows == tasks.count && in_range(features),
                "start must have a row of features for each label");
    }
    SparseWeights kept;
    {
        const nb::gil_scoped_release release;
        kept =
            pruned_fit(x, num_features, tasks, rule, from ? &*from : nullptr, least, bias.data(), losses.data());
    }
    return nb::make_tuple(owned(std::move(kept.indptr)), owned(std::move(kept.features)),
                          owned(std::move(kept.weights)));
}

template <class T>
void bind_for(nb::module_& m) {
    m.def("hashed_linear", &forward<T>, "indptr"_a.noconvert(), "indices"_a.noconvert(), "values"_a.noconvert(),
          "out_indptr"_a.noconvert(), "out_ids"_a.noconvert(), "layout"_a, "buckets"_a.noconvert(),
          "bias"_a.noconvert().none(), "out"_a.noconvert(), GilRelease());
    m.def("hashed_linear_grad_values", &grad_values<T>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "values"_a.noconvert(), "out_indptr"_a.noconvert(), "out_ids"_a.noconvert(), "layout"_a,
          "buckets"_a.noconvert(), "grad_out"_a.noconvert(), "grad"_a.noconvert(), GilRelease());
    m.def("hashed_linear_grad_buckets", &grad_buckets<T>, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "values"_a.noconvert(), "out_indptr"_a.noconvert(), "out_ids"_a.noconvert(), "layout"_a,
          "grad_out"_a.noconvert(), "grad"_a.noconvert(), GilRelease());
}

}  // namespace

void bind_hashed_linear(nb::module_& m) {
    nb::class_<Layout>(m, "HashedLayout")
        .def(nb::init<Array1<const int64_t>, Array1<const int32_t>, uint32_t, bool, bool>(),
             "offsets"_a.noconvert(), "sizes"_a.noconvert(), "seed"_a, "sign"_a, "identity"_a);
    nb::class_<FitRule>(m, "FitRule")
        .def(
            "__init__",
            [](FitRule* self, bool logistic, int32_t epochs, float lr, float floor, float l2, float bias_rate,
               float initial_sum, uint64_t seed) {
                new (self) FitRule{logistic ? FitLoss::logistic : FitLoss::squared_hinge,
                                   epochs,
                                   lr,
                                   floor,
                                   l2,
                                   bias_rate,
                                   initial_sum,
                                   seed};
            },
            "logistic"_a, "epochs"_a, "lr"_a, "floor"_a, "l2"_a, "bias_rate"_a, "initial_sum"_a, "seed"_a);
    bind_for<float>(m);
    bind_for<double>(m);
    m.def("hashed_linear_int8", &forward_int8, "indptr"_a.noconvert(), "indices"_a.noconvert(),
          "values"_a.noconvert(), "out_indptr"_a.noconvert(), "out_ids"_a.noconvert(), "layout"_a,
          "codes"_a.noconvert(), "scales"_a.noconvert(), "bias"_a.noconvert(), "out"_a.noconvert(), GilRelease());
    m.def("hashed_linear_fit", &fit, "indptr"_a.noconvert(), "indices"_a.noconvert(), "values"_a.noconvert(),
          "labels"_a.noconvert(), "label_indptr"_a.noconvert(), "rows"_a.noconvert(), "targets"_a.noconvert(),
          "layout"_a, "rule"_a, "buckets"_a.noconvert().none(), "codes"_a.noconvert().none(),
          "scales"_a.noconvert().none(), "bias"_a.noconvert(), "warm"_a, "losses"_a.noconvert(), GilRelease());
    m.def("pruned_fit", &pruned, "indptr"_a.noconvert(), "indices"_a.noconvert(), "values"_a.noconvert(),
          "num_features"_a, "labels"_a.noconvert(), "label_indptr"_a.noconvert(), "rows"_a.noconvert(),
          "targets"_a.noconvert(), "rule"_a, "start"_a.none(), "least"_a, "bias"_a.noconvert(),
          "losses"_a.noconvert());
}

}  // namespace hashfold
