#include "decoder.hpp"

#include <stdexcept>
#include <system_error>
#include <utility>

namespace mlx_sidecar::cpu {
namespace {

void check(bool fits, const char *because) {
    if (!fits) throw std::invalid_argument(because);
}

Index rows_of(const std::vector<Projection> &projections) {
    Index rows = 0;
    for (const Projection &projection : projections) rows += projection.matrix.rows;
    return rows;
}

void check_projection(const Projection &projection, Index columns) {
    const Matrix &m = projection.matrix;
    check(m.columns == columns, "a matrix has another number of columns than what it is multiplied with");
    check(m.rows > 0 && m.columns % column_step(m.format) == 0, "a matrix of so many columns cannot be multiplied");
    check(projection.bias.empty() || static_cast<Index>(projection.bias.size()) == m.rows, "a bias of another size");
}

void check_norm(const Norm &norm, Index size) {
    check(norm.weight.empty() || static_cast<Index>(norm.weight.size()) == size, "a norm of another size");
}

const Spec &checked(const Spec &spec) {
    const Index width = spec.embedding.columns;
    check(spec.embedding.rows > 0 && width > 0 && width % 8 == 0, "an embedding of another shape");
    check(!spec.layers.empty(), "no layers");
    for (const Layer &layer : spec.layers) {
        const Index heads = layer.heads * layer.size, keys = layer.key_heads * layer.size;
        check(layer.key_heads > 0 && layer.heads % layer.key_heads == 0, "heads do not share keys evenly");
        check(layer.size > 0 && layer.size % 8 == 0, "heads of a size that is no multiple of 8");
        check(layer.kind >= 0 && layer.kind < static_cast<int>(spec.windows.size()), "no such kind of layers");
        check(layer.rope < static_cast<int>(spec.ropes.size()), "no such rope");
        check(layer.rope < 0 || 2 * static_cast<Index>(spec.ropes[static_cast<std::size_t>(layer.rope)].frequencies.size()) <=
                                    layer.size, "a rope of more numbers than a head has");
        for (const Projection &input : layer.inputs) check_projection(input, width);
        check(rows_of(layer.inputs) == heads + 2 * keys, "queries, keys and values of another size");
        check_projection(layer.output, heads);
        for (const Projection &input : layer.gate_up) check_projection(input, width);
        check(rows_of(layer.gate_up) == 2 * layer.down.matrix.columns &&
                  (layer.gate_up.size() == 1 || layer.gate_up[0].matrix.rows == layer.down.matrix.columns),
              "gate and up of another size");
        check_projection(layer.down, layer.down.matrix.columns);
        check(layer.output.matrix.rows == width && layer.down.matrix.rows == width, "an output of another width");
        for (const Norm *norm : {&layer.before_attention, &layer.after_attention, &layer.before_mlp, &layer.after_mlp}) {
            check_norm(*norm, width);
        }
        check_norm(layer.query_norm, layer.norms_whole ? heads : layer.size);
        check_norm(layer.key_norm, layer.norms_whole ? keys : layer.size);
    }
    check_norm(spec.norm, width);
    check_projection(spec.head, width);
    return spec;
}

// A step reads them all, from one end to the other.
void settle_weights(const Spec &spec) {
    std::vector<Range> ranges;
    const auto add = [&ranges](const Matrix &m) {
        ranges.push_back({m.weight, m.rows * row_bytes(m)});
        if (m.group == 0) return;
        const Index bytes = m.rows * (m.columns / m.group) * (m.scale_format == Format::f32 ? 4 : 2);
        ranges.push_back({m.scales, bytes});
        ranges.push_back({m.biases, bytes});
    };
    add(spec.embedding);
    add(spec.head.matrix);
    for (const Layer &layer : spec.layers) {
        for (const Projection &projection : layer.inputs) add(projection.matrix);
        for (const Projection &projection : layer.gate_up) add(projection.matrix);
        add(layer.output.matrix);
        add(layer.down.matrix);
    }
    use_huge_pages(std::move(ranges));
}

}  // namespace

Decoder::Decoder(Spec spec, int threads, Arithmetic arithmetic, Format cache)
    : spec_(checked(spec)), cache_(spec_, cache), pass_(spec_, cache_, threads, arithmetic) {
    settle_weights(spec_);
}

Decoder::~Decoder() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        stopped_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
}

Cache &Decoder::cache() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return !job_; });
    return cache_;
}

void Decoder::release() {
    cache();
    pass_.release();
}

void Decoder::adapt(Index row, std::shared_ptr<const Adapter> adapter) {
    const auto check_pair = [&](const Projection &projection) {
        const LowRank *pair = adapter->find(projection.number);
        check(pair == nullptr || (pair->a.columns == projection.matrix.columns && pair->b.rows == projection.matrix.rows),
              "an adapter of another shape");
    };
    for (const Layer &layer : spec_.layers) {
        for (const Projection &projection : layer.inputs) check_pair(projection);
        for (const Projection &projection : layer.gate_up) check_pair(projection);
        check_pair(layer.output);
        check_pair(layer.down);
    }
    cache_.adapt(row, std::move(adapter));
}

void Decoder::submit(const std::vector<Part> &parts, std::vector<std::int32_t> tokens) {
    Cache &cache = this->cache();
    Index count = 0;
    for (const Part &part : parts) {
        check(part.tokens > 0 && part.wanted >= 0 && part.wanted <= part.tokens, "a part of so many tokens");
        count += part.tokens;
    }
    check(count == static_cast<Index>(tokens.size()), "the parts have another number of tokens");
    for (const std::int32_t token : tokens) check(token >= 0 && token < spec_.embedding.rows, "no such token");
    Job job{{}, std::move(tokens)};
    for (const Part &part : parts) {
        const Row &row = cache.extend(part.row, part.tokens);
        JobPart given{row.floor, part.tokens, part.wanted, part.hidden, {}, row.adapter};
        for (const Chain &chain : row.chains) given.blocks.push_back(chain.blocks);
        job.parts.push_back(std::move(given));
    }
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        job_ = std::move(job);
        results_ = {};
        error_ = nullptr;
    }
    // Started here, since a process that forks before its first step then has no thread to lose.
    if (!thread_.joinable()) {
        try {
            thread_ = std::thread(&Decoder::work, this);
        } catch (const std::system_error &) {
            compute(*job_);  // the system has no more threads
            return;
        }
    }
    changed_.notify_all();
}

Results Decoder::wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return !job_; });
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    return std::move(results_);
}

void Decoder::work() {
    while (true) {
        {
            std::unique_lock<std::mutex> lock(mutex_);
            changed_.wait(lock, [this] { return job_ || stopped_; });
            if (stopped_) return;
        }
        compute(*job_);
    }
}

void Decoder::compute(const Job &job) {
    Results results;
    std::exception_ptr error;
    try {
        results = pass_.run(job, stopped_);
    } catch (...) {
        error = std::current_exception();
    }
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        results_ = std::move(results);
        error_ = error;
        job_.reset();
    }
    changed_.notify_all();
}

}  // namespace mlx_sidecar::cpu
