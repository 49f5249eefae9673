// One pass of a decoder over a flat list of tokens from any mix of rows.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "cache.hpp"
#include "crew.hpp"
#include "kernels.hpp"
#include "spec.hpp"

namespace mlx_sidecar::cpu {

// Consecutive tokens of a row, and the blocks that they are written to and attend to. `wanted`: logits after the last so
// many of them are asked for, or where `hidden` their hidden states.
struct JobPart {
    Index position, tokens, wanted;
    bool hidden;
    std::vector<std::vector<BlockRef>> blocks;  // by kind and number
    std::shared_ptr<const Adapter> adapter;     // null: none
};

struct Job {
    std::vector<JobPart> parts;
    std::vector<std::int32_t> tokens;  // of all parts, part by part
};

// Of the tokens wanted, part by part: logits [tokens, vocabulary], or hidden states behind the last norm [tokens, width].
struct Results {
    std::vector<float> logits, hidden;
};

// Floats aligned to 64 bytes, which grow and are never cleared.
class Buffer {
public:
    // At least `floats` of them; what was there is lost if it grows. Throws std::bad_alloc.
    float *of(Index floats);
    void release();

    Buffer() = default;
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    ~Buffer() { release(); }

private:
    struct Free {
        void operator()(float *data) const;
    };
    std::unique_ptr<float, Free> data_;
    Index floats_ = 0;
};

class Pass {
public:
    // `spec` and what it points to outlive this. Keys and values are where `cache` says.
    Pass(const Spec &spec, const Cache &cache, int threads, Arithmetic arithmetic);

    // Gives the memory of buffers back.
    void release();
    // Ends early, with nothing of use, once `stopped`.
    Results run(const Job &job, const std::atomic<bool> &stopped);

private:
    struct Piece {
        const Projection &projection;
        float *out;
    };
    struct Product {
        const Matrix &matrix;
        float *out;
    };
    // Places in the buffers of the tokens that are computed with an adapter.
    struct Adapted {
        const Adapter *adapter;
        std::vector<Index> tokens;
    };

    void embed(const Job &job);
    void rotations(const Job &job);
    void attend(const Job &job, const Layer &layer, Index number, bool last);
    void project_inputs(const Job &job, const Layer &layer);
    void store(const Job &job, const Layer &layer, Index number);
    void feed_forward(const Layer &layer);
    void prepare_scratch(Index floats);
    void split_keys(std::vector<Attention> &attentions);
    void keep_wanted(const Job &job, Index width, float *rows);
    std::vector<float> take_hidden(const Job &job);
    void find_adapted(const Job &job, bool only_wanted);
    void add(const Norm &norm, float residual);
    const float *normed(const Norm &norm);
    // out[t, r] for each piece, tokens `stride` floats apart, of the same activations [tokens_, columns].
    void multiply(const std::vector<Piece> &pieces, const float *activations, Index columns, Index stride);
    void multiply(const std::vector<Product> &products, const Activations &activations, Index stride);
    // Adds to each piece what the adapters of tokens have for it.
    void adapt(const std::vector<Piece> &pieces, const float *activations, Index columns, Index stride);

    const Spec &spec_;
    const Cache &cache_;
    const Kernels &kernels_;
    const Arithmetic arithmetic_;
    const Index width_;
    Crew crew_;
    Index tokens_ = 0;  // rows of the buffers; in the last layer only the wanted ones
    Buffer x_, norm_, inputs_, attended_, output_, wide_, narrow_, cosines_, sines_, arranged_, partials_;
    std::vector<Adapted> adapted_;
    Buffer gathered_, low_, raised_;  // of an adapter's tokens: their activations, x A^T, and that times B^T
    std::vector<Buffer> scratch_;  // of each thread
};

}  // namespace mlx_sidecar::cpu
