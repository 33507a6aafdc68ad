#include "core/active_step.hpp"

#include "active_ids.hpp"
#include "families.hpp"
#include "row_optimizer.hpp"

namespace hashfold {
namespace {

void check(Array2<const float>& x, const MovedLayer& layer, Array2<float>& grad_x) {
    require(static_cast<int64_t>(x.shape(1)) == layer.weight.weight.cols, "x and weight differ in columns");
    require(grad_x.shape(0) == x.shape(0) && grad_x.shape(1) == x.shape(1), "x and grad_x differ in shape");
}

MovedLayer moved_layer(const RowOptimizer& rule, Array2<float>& weight, OptionalState& state1,
                       OptionalState& state2, const RowOptimizer& bias_rule, OptionalMatrix& bias,
                       OptionalState& bias_state1, OptionalState& bias_state2) {
    const RowParameter moved_bias = bias ? row_parameter(bias_rule, *bias, bias_state1, bias_state2)
                                         : RowParameter{{nullptr, 0, 1}, nullptr, nullptr};
    require(!bias || bias->shape(0) == weight.shape(0), "bias and weight differ in length");
    return {rule, row_parameter(rule, weight, state1, state2), bias_rule, moved_bias};
}

void forward(Precision precision, Array2<const float> x, Array2<const float> weight,
             OptionalVector<const float> bias, OptionalIds ids, Array2<float> logits) {
    const ActiveIds active = active_ids(ids, weight.shape(0));
    require(x.shape(1) == weight.shape(1), "x and weight differ in columns");
    require(!bias || bias->shape(0) == weight.shape(0), "bias and weight differ in length");
    require(logits.shape(0) == x.shape(0) && static_cast<int64_t>(logits.shape(1)) == active.count,
            "logits' shape");
    active_forward(precision, matrix(x), matrix(weight), bias ? bias->data() : nullptr, active, matrix(logits));
}

void step(Precision precision, Array2<const float> grad, Array2<const float> x, OptionalIds ids,
          const RowOptimizer& rule, Array2<float> weight, OptionalState state1, OptionalState state2,
          const RowOptimizer& bias_rule, OptionalMatrix bias, OptionalState bias_state1, OptionalState bias_state2,
          Array2<float> grad_x) {
    const ActiveIds active = active_ids(ids, weight.shape(0));
    const MovedLayer layer = moved_layer(rule, weight, state1, state2, bias_rule, bias, bias_state1, bias_state2);
    check(x, layer, grad_x);
    require(static_cast<int64_t>(grad.shape(1)) == active.count, "grad and ids differ in length");
    require(grad.shape(0) == x.shape(0), "grad and x differ in rows");
    active_step(precision, matrix(grad), matrix(x), active, layer, matrix(grad_x));
}

double loss_step(Precision precision, SampledLoss loss, Array2<const float> x, OptionalIds ids,
                 Array1<const float> weights, Array1<const int64_t> starts, Array1<const int64_t> positions,
                 const RowOptimizer& rule, Array2<float> weight, OptionalState state1, OptionalState state2,
                 const RowOptimizer& bias_rule, OptionalMatrix bias, OptionalState bias_state1,
                 OptionalState bias_state2, Array2<float> grad_x) {
    const ActiveIds active = active_ids(ids, weight.shape(0));
    const MovedLayer layer = moved_layer(rule, weight, state1, state2, bias_rule, bias, bias_state1, bias_state2);
    check(x, layer, grad_x);
    require(length(weights) == active.count, "weights and ids differ in length");
    require(starts.shape(0) == x.shape(0) + 1, "starts and x differ in rows");
    require(starts.data()[0] == 0 && starts.data()[x.shape(0)] == length(positions), "starts and positions");
    return active_loss_step(precision, loss, matrix(x), active, weights.data(), {starts.data(), positions.data()},
                            layer, matrix(grad_x));
}

}  // namespace

void bind_active_step(nb::module_& m) {
    nb::enum_<Precision>(m, "Precision").value("fp32", Precision::fp32).value("bf16", Precision::bf16);
    nb::enum_<SampledLoss>(m, "SampledLoss")
        .value("softmax", SampledLoss::softmax)
        .value("sigmoid", SampledLoss::sigmoid);
    m.def("active_forward", &forward, "precision"_a, "x"_a.noconvert(), "weight"_a.noconvert(),
          "bias"_a.noconvert().none(), "ids"_a.noconvert().none(), "logits"_a.noconvert(), GilRelease());
    m.def("active_step", &step, "precision"_a, "grad"_a.noconvert(), "x"_a.noconvert(), "ids"_a.noconvert().none(),
          "rule"_a, "weight"_a.noconvert(), "state1"_a.noconvert().none(), "state2"_a.noconvert().none(),
          "bias_rule"_a, "bias"_a.noconvert().none(), "bias_state1"_a.noconvert().none(),
          "bias_state2"_a.noconvert().none(), "grad_x"_a.noconvert(), GilRelease());
    m.def("active_loss_step", &loss_step, "precision"_a, "loss"_a, "x"_a.noconvert(), "ids"_a.noconvert().none(),
          "weights"_a.noconvert(), "starts"_a.noconvert(), "positions"_a.noconvert(), "rule"_a,
          "weight"_a.noconvert(), "state1"_a.noconvert().none(), "state2"_a.noconvert().none(), "bias_rule"_a,
          "bias"_a.noconvert().none(), "bias_state1"_a.noconvert().none(), "bias_state2"_a.noconvert().none(),
          "grad_x"_a.noconvert(), GilRelease());
}

}  // namespace hashfold
