#include "core/mixture.hpp"

#include "arrays.hpp"
#include "families.hpp"

namespace hashfold {
namespace {

using Numbers = Array1<const float>;

MixtureWeights weights(const Numbers& linear, const Array2<const float>& hidden, const Numbers& out,
                       float offset) {
    const MixtureWeights w{linear.data(), matrix(hidden), out.data(), offset};
    require(w.features() == length(linear) && w.units() == length(out), "shapes of the weights");
    return w;
}

void scores(Array2<const float> features, Numbers linear, Array2<const float> hidden, Numbers out, float offset,
            Array1<float> scores) {
    const MixtureWeights w = weights(linear, hidden, out, offset);
    require(matrix(features).cols == w.features(), "features and weights disagree");
    require(length(scores) == matrix(features).rows, "length of scores");
    mixture_scores(matrix(features), w, scores.data());
}

double loss(Array2<const float> columns, Array1<const int64_t> indptr, Numbers share, Numbers stands_for,
            Numbers linear, Array2<const float> hidden, Numbers out, Array1<double> gradient) {
    const MixtureWeights w = weights(linear, hidden, out, 0);
    const MixtureLists lists{matrix(columns), indptr.data(), share.data(), stands_for.data(), length(indptr) - 1};
    const int64_t count = length(share);
    require(length(stands_for) == count && lists.rows >= 0 && indptr.data()[lists.rows] == count,
            "lengths of the lists");
    require(lists.columns.cols >= count + kMixturePadding && lists.columns.rows % kMixtureBlock == 0 &&
                lists.columns.rows > w.features(),
            "shape of the columns");
    require(length(gradient) == w.count(), "length of the gradient");
    return mixture_loss(lists, w, gradient.data());
}

}  // namespace

void bind_mixture(nb::module_& m) {
    m.def("mixture_scores", &scores, "features"_a.noconvert(), "linear"_a.noconvert(), "hidden"_a.noconvert(),
          "out"_a.noconvert(), "offset"_a, "scores"_a.noconvert(), GilRelease());
    m.def("mixture_loss", &loss, "columns"_a.noconvert(), "indptr"_a.noconvert(), "share"_a.noconvert(),
          "stands_for"_a.noconvert(), "linear"_a.noconvert(), "hidden"_a.noconvert(), "out"_a.noconvert(),
          "gradient"_a.noconvert(), GilRelease());
    m.attr("MIXTURE_PADDING") = kMixturePadding;
    m.attr("MIXTURE_BLOCK") = kMixtureBlock;
}

}  // namespace hashfold
