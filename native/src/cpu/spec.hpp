// What a decoder of the llama family consists of, as numbers and the places of weights.
#pragma once

#include <vector>

#include "matrix.hpp"
#include "rows.hpp"

namespace mlx_sidecar::cpu {

// y = x W^T + bias, and what the adapters of rows have for its number
struct Projection {
    Matrix matrix;
    std::vector<float> bias;  // empty: none
    int number = -1;          // -1: no adapter has anything for it
};

struct Norm {
    std::vector<float> weight;  // empty: there is no such norm
    float epsilon = 0.0F;
};

// Rotary positions. The angle of a pair at a position is float32(position * position_scale) * frequency, in float32, as
// mlx computes it.
struct Rope {
    std::vector<float> frequencies;  // for each pair of numbers
    float position_scale = 1.0F;
    float input_scale = 1.0F;  // of the numbers before they are rotated
    bool traditional = false;
};

// x += residual * after_attention(output(attention(before_attention(x))))
// x += residual * after_mlp(down(activation(gate(z)) * up(z))), z = before_mlp(x)
struct Layer {
    Norm before_attention, after_attention, before_mlp, after_mlp;
    std::vector<Projection> inputs;  // of attention: queries, keys, values, or all of them in one
    Projection output;
    Norm query_norm, key_norm;
    bool norms_whole = false;  // query_norm and key_norm are over all heads together, else over each
    int rope = -1;             // which one; -1: none
    Index heads = 0, key_heads = 0, size = 0;
    int kind = 0;  // of layers that see equally far
    float scale = 1.0F, cap = 0.0F;
    std::vector<Projection> gate_up;  // two, or both in one, the gate first
    Projection down;
    Activation activation = Activation::silu;
    float residual = 1.0F;
};

struct Spec {
    Matrix embedding;
    float embedding_scale = 1.0F;
    std::vector<Layer> layers;
    std::vector<Rope> ropes;
    std::vector<Index> windows;  // of each kind of layers: how many newest tokens they see; 0: all
    Norm norm;
    Projection head;
    float logit_scale = 1.0F, logit_cap = 0.0F;
};

}  // namespace mlx_sidecar::cpu
