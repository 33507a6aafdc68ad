#include "core/hashing.hpp"

#include <nanobind/stl/optional.h>

#include <optional>

#include "arrays.hpp"
#include "families.hpp"

namespace hashfold {
namespace {

using OptionalCodes = std::optional<Array2<int32_t>>;

HashOutput hash_output(const OptionalCodes& codes, const OptionalCodes& buckets, int64_t tables, int64_t per_table,
                       int code_bits, int bucket_bits, uint64_t seed) {
    require(!codes || static_cast<int64_t>(codes->shape(1)) == tables * per_table, "columns of codes");
    require(!buckets || static_cast<int64_t>(buckets->shape(1)) == tables, "columns of buckets");
    require(code_bits > 0 ? per_table * code_bits <= 30 : bucket_bits >= 0 && bucket_bits <= 30, "bucket bits");
    return {codes ? codes->data() : nullptr,
            buckets ? buckets->data() : nullptr,
            tables,
            per_table,
            code_bits,
            bucket_bits,
            seed};
}

// Rows and outputs hold pointers into arrays that Python keeps alive as long as them.
void bind_views(nb::module_& m) {
    nb::class_<HashRows>(m, "HashRows")
        .def(
            "__init__",
            [](HashRows* self, Array2<const float> x) {
                new (self) HashRows{matrix(x), {nullptr, nullptr, nullptr, 0}};
            },
            "x"_a.noconvert(), nb::keep_alive<1, 2>())
        .def(
            "__init__",
            [](HashRows* self, Array1<const int64_t> indptr, Array1<const int32_t> indices,
               Array1<const float> values) {
                new (self) HashRows{{nullptr, 0, 0}, csr<float>(indptr, indices, values)};
            },
            "indptr"_a.noconvert(), "indices"_a.noconvert(), "values"_a.noconvert(), nb::keep_alive<1, 2>(),
            nb::keep_alive<1, 3>(), nb::keep_alive<1, 4>());
    nb::class_<HashOutput>(m, "HashOutput")
        .def(
            "__init__",
            [](HashOutput* self, OptionalCodes codes, OptionalCodes buckets, int64_t tables, int64_t per_table,
               int code_bits, int bucket_bits, uint64_t seed) {
                new (self)
                    HashOutput(hash_output(codes, buckets, tables, per_table, code_bits, bucket_bits, seed));
            },
            "codes"_a.noconvert().none(), "buckets"_a.noconvert().none(), "tables"_a, "per_table"_a, "code_bits"_a,
            "bucket_bits"_a, "seed"_a, nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>());
}

SignLists sign_lists(const Array1<const int64_t>& starts, const Array1<const uint32_t>& entries) {
    require(length(starts) >= 1 && starts.data()[length(starts) - 1] == length(entries), "ends of the sign lists");
    return {starts.data(), entries.data(), length(starts) - 1};
}

void bind_sparse_simhash(nb::module_& m) {
    m.def(
        "sparse_simhash",
        [](const HashRows& x, Array1<const int64_t> feature_starts, Array1<const uint32_t> feature_entries,
           Array1<const int64_t> hash_starts, Array1<const uint32_t> hash_entries, const HashOutput& out) {
            const SignLists by_hash = sign_lists(hash_starts, hash_entries);
            require(by_hash.lists == out.hashes(), "one list a hash");
            sparse_simhash(x, sign_lists(feature_starts, feature_entries), by_hash, out);
        },
        "x"_a, "feature_starts"_a.noconvert(), "feature_entries"_a.noconvert(), "hash_starts"_a.noconvert(),
        "hash_entries"_a.noconvert(), "out"_a, GilRelease());
}

void bind_dwta(nb::module_& m) {
    m.def(
        "dwta",
        [](const HashRows& x, Array2<const int32_t> features, Array2<const int32_t> places,
           Array2<const int32_t> slots, int64_t count, const HashOutput& out) {
            require(static_cast<int64_t>(features.shape(0)) == out.hashes(), "one bin a hash");
            require(features.shape(0) == places.shape(0) && features.shape(1) == places.shape(1),
                    "shape of places");
            dwta(x, {matrix(features), matrix(places), matrix(slots), count}, out);
        },
        "x"_a, "features"_a.noconvert(), "places"_a.noconvert(), "slots"_a.noconvert(), "count"_a, "out"_a,
        GilRelease());
}

}  // namespace

void bind_hashing(nb::module_& m) {
    bind_views(m);
    m.def(
        "gaussian_projection", [](uint64_t seed, Array2<float> out) { gaussian_projection(seed, matrix(out)); },
        "seed"_a, "out"_a.noconvert(), GilRelease());
    m.def(
        "first_invalid",
        [](Array1<const float> values, bool refuse_negative) {
            return first_invalid(values.data(), length(values), refuse_negative);
        },
        "values"_a.noconvert(), "refuse_negative"_a, GilRelease());
    m.def(
        "simhash",
        [](const HashRows& x, Array2<const float> projection, const HashOutput& out) {
            require(static_cast<int64_t>(projection.shape(1)) == out.hashes(), "columns of projection");
            simhash(x, matrix(projection), out);
        },
        "x"_a, "projection"_a.noconvert(), "out"_a, GilRelease());
    bind_sparse_simhash(m);
    bind_dwta(m);
    m.def("minhash", &minhash, "x"_a, "out"_a, GilRelease());
    m.def("doph", &doph, "x"_a, "out"_a, GilRelease());
}

}  // namespace hashfold
