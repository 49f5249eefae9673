// A decoder with its rows. A step is given, computed by a thread of the decoder's own, and waited for.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "cache.hpp"
#include "pass.hpp"

namespace mlx_sidecar::cpu {

// `tokens` consecutive tokens of a row, with logits wanted after each of the last `wanted`, or their hidden states.
struct Part {
    Index row, tokens, wanted;
    bool hidden;
};

// For one caller at a time.
class Decoder {
public:
    // Throws std::invalid_argument where the spec does not fit together.
    // `cache` is the format of keys and values, f32 or f16.
    Decoder(Spec spec, int threads, Arithmetic arithmetic, Format cache);
    ~Decoder();
    Decoder(const Decoder &) = delete;
    Decoder &operator=(const Decoder &) = delete;

    // Gives the memory of buffers back, once no step is being computed.
    void release();
    // The rows, once no step is being computed.
    Cache &cache();
    const Spec &spec() const { return spec_; }
    // Lets the tokens to come of a row be computed with `adapter`. Throws std::invalid_argument where it does not fit.
    void adapt(Index row, std::shared_ptr<const Adapter> adapter);
    // Rows as they were given so far: whatever is being computed, their lengths and blocks do not change.
    Cache &rows() { return cache_; }

    // Starts a step. Throws std::invalid_argument for rows that are not there and tokens beyond the vocabulary, and
    // std::bad_alloc where there is no memory for its blocks; rows may then be longer than what was computed.
    void submit(const std::vector<Part> &parts, std::vector<std::int32_t> tokens);
    // The results of that step. Throws what it threw.
    Results wait();

private:
    void work();
    void compute(const Job &job);

    const Spec spec_;
    Cache cache_;
    Pass pass_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::optional<Job> job_;  // given and not yet done
    Results results_;
    std::exception_ptr error_;
    std::atomic<bool> stopped_ = false;
    std::thread thread_;
};

}  // namespace mlx_sidecar::cpu
