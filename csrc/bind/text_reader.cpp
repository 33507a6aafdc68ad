#include "core/text_reader.hpp"

#include <nanobind/stl/string.h>

#include "arrays.hpp"
#include "families.hpp"

namespace hashfold {
namespace {

// The vector's memory as a NumPy array that owns it.
template <class T>
nb::ndarray<nb::numpy, T, nb::ndim<1>> owned(std::vector<T>&& from) {
    auto* held = new std::vector<T>(std::move(from));
    nb::capsule owner(held, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    return {held->data(), {held->size()}, owner};
}

nb::tuple take(TextReader& reader) {
    TextRows rows = reader.take();
    return nb::make_tuple(owned(std::move(rows.indptr)), owned(std::move(rows.indices)),
                          owned(std::move(rows.values)), owned(std::move(rows.label_indptr)),
                          owned(std::move(rows.labels)));
}

bool feed(TextReader& reader, const nb::bytes& chunk) {
    const std::string_view text(chunk.c_str(), chunk.size());
    const nb::gil_scoped_release release;
    return reader.feed(text);
}

nb::tuple pair(LargestId largest) {
    return nb::make_tuple(largest.id, largest.line);
}

}  // namespace

void bind_text_reader(nb::module_& m) {
    nb::class_<TextReader>(m, "TextReader")
        .def(
            "__init__",
            [](TextReader* self, bool svmlight) {
                new (self) TextReader(svmlight ? TextFormat::svmlight : TextFormat::xmc);
            },
            "svmlight"_a)
        .def("feed", &feed, "chunk"_a)
        .def("finish", &TextReader::finish)
        .def("take", &take)
        .def_prop_ro("error", &TextReader::error)
        .def_prop_ro("error_line", &TextReader::error_line)
        .def_prop_ro("rows", &TextReader::rows)
        .def_prop_ro("header_features", &TextReader::header_features)
        .def_prop_ro("header_labels", &TextReader::header_labels)
        .def_prop_ro("smallest_feature", &TextReader::smallest_feature)
        .def_prop_ro("largest_feature", [](const TextReader& r) { return pair(r.largest_feature()); })
        .def_prop_ro("largest_label", [](const TextReader& r) { return pair(r.largest_label()); });
}

}  // namespace hashfold
