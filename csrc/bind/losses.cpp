#include "core/losses.hpp"

#include "arrays.hpp"
#include "families.hpp"

namespace hashfold {
namespace {

template <class T>
using Loss = void (*)(Matrix<const T>, const T*, TrueColumns, T*, T, Matrix<T>);

template <class T>
void run(Loss<T> function, Array2<const T> logits, Array1<const T> weights, Array1<const int64_t> starts,
         Array1<const int64_t> positions, Array1<T> loss, T scale, Array2<T> grad) {
    require(length(weights) == static_cast<int64_t>(logits.shape(1)), "weights and logits differ in columns");
    require(starts.shape(0) == logits.shape(0) + 1, "starts and logits differ in rows");
    require(length(loss) == static_cast<int64_t>(logits.shape(0)), "loss and logits differ in rows");
    function(matrix(logits), weights.data(), {starts.data(), positions.data()}, loss.data(), scale, matrix(grad));
}

template <class T>
void bind_one(nb::module_& m, const char* name, Loss<T> function) {
    m.def(
        name,
        [function](Array2<const T> logits, Array1<const T> weights, Array1<const int64_t> starts,
                   Array1<const int64_t> positions, Array1<T> loss, T scale,
                   Array2<T> grad) { run<T>(function, logits, weights, starts, positions, loss, scale, grad); },
        "logits"_a.noconvert(), "weights"_a.noconvert(), "starts"_a.noconvert(), "positions"_a.noconvert(),
        "loss"_a.noconvert(), "scale"_a, "grad"_a.noconvert(), GilRelease());
}

}  // namespace

void bind_losses(nb::module_& m) {
    bind_one<float>(m, "sampled_softmax", &sampled_softmax<float>);
    bind_one<double>(m, "sampled_softmax", &sampled_softmax<double>);
    bind_one<float>(m, "sampled_sigmoid", &sampled_sigmoid<float>);
    bind_one<double>(m, "sampled_sigmoid", &sampled_sigmoid<double>);
}

}  // namespace hashfold
