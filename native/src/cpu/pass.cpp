#include "pass.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <tuple>
#include <utility>

namespace mlx_sidecar::cpu {
namespace {

constexpr std::align_val_t kAlignment{64};

Index input_floats(const Layer &layer) { return (layer.heads + 2 * layer.key_heads) * layer.size; }

// How many steps `count` takes.
Index steps_of(Index count, Index step) { return (count + step - 1) / step; }

}  // namespace

void Buffer::Free::operator()(float *data) const { ::operator delete(data, kAlignment); }

float *Buffer::of(Index floats) {
    if (floats > floats_) {
        release();
        data_.reset(static_cast<float *>(::operator new(static_cast<std::size_t>(floats) * sizeof(float), kAlignment)));
        floats_ = floats;
        count_allocated(floats_ * static_cast<Index>(sizeof(float)));
    }
    return data_.get();
}

void Buffer::release() {
    count_allocated(-floats_ * static_cast<Index>(sizeof(float)));
    data_.reset();
    floats_ = 0;
}

Pass::Pass(const Spec &spec, const Cache &cache, int threads, Arithmetic arithmetic)
    : spec_(spec),
      cache_(cache),
      kernels_(kernels()),
      arithmetic_(arithmetic),
      width_(spec.embedding.columns),
      crew_(threads),
      scratch_(static_cast<std::size_t>(threads)) {}

Results Pass::run(const Job &job, const std::atomic<bool> &stopped) {
    tokens_ = static_cast<Index>(job.tokens.size());
    find_adapted(job, false);
    embed(job);
    rotations(job);
    for (std::size_t i = 0; i < spec_.layers.size(); ++i) {
        if (stopped) return {};
        const bool last = i + 1 == spec_.layers.size();
        attend(job, spec_.layers[i], static_cast<Index>(i), last);
        if (tokens_ == 0) return {};
        feed_forward(spec_.layers[i]);
    }
    Results results{{}, take_hidden(job)};
    if (tokens_ == 0) return results;
    const Index vocabulary = spec_.head.matrix.rows;
    std::vector<float> &logits = results.logits;
    logits.resize(static_cast<std::size_t>(tokens_ * vocabulary));
    multiply({{spec_.head, logits.data()}}, normed(spec_.norm), width_, vocabulary);
    const auto count = static_cast<Index>(logits.size());
    if (spec_.logit_scale != 1.0F) {
        for (float &logit : logits) logit *= spec_.logit_scale;
    }
    if (spec_.logit_cap != 0.0F) kernels_.rows.cap(logits.data(), spec_.logit_cap, count);
    return results;
}

void Pass::release() {
    for (Buffer *buffer : {&x_, &norm_, &inputs_, &attended_, &output_, &wide_, &narrow_, &cosines_, &sines_, &arranged_,
                           &partials_, &gathered_, &low_, &raised_}) {
        buffer->release();
    }
    for (Buffer &scratch : scratch_) scratch.release();
}

// Before threads use it, because what they call must not throw.
void Pass::prepare_scratch(Index floats) {
    for (Buffer &scratch : scratch_) scratch.of(floats);
}

void Pass::embed(const Job &job) {
    float *x = x_.of(tokens_ * width_);
    for (Index t = 0; t < tokens_; ++t, x += width_) {
        kernels_.linear.expand_row(spec_.embedding, job.tokens[static_cast<std::size_t>(t)], x);
        if (spec_.embedding_scale != 1.0F) {
            for (Index i = 0; i < width_; ++i) x[i] *= spec_.embedding_scale;
        }
    }
}

// Cosines and sines [ropes][tokens, pairs].
void Pass::rotations(const Job &job) {
    Index pairs = 0;
    for (const Rope &rope : spec_.ropes) pairs += static_cast<Index>(rope.frequencies.size());
    float *cosine = cosines_.of(tokens_ * pairs), *sine = sines_.of(tokens_ * pairs);
    for (const Rope &rope : spec_.ropes) {
        for (const JobPart &part : job.parts) {
            for (Index t = 0; t < part.tokens; ++t) {
                const float place = static_cast<float>(part.position + t) * rope.position_scale;
                for (const float frequency : rope.frequencies) {
                    const float angle = place * frequency;
                    *cosine++ = static_cast<float>(std::cos(static_cast<double>(angle)));
                    *sine++ = static_cast<float>(std::sin(static_cast<double>(angle)));
                }
            }
        }
    }
}

const float *Pass::normed(const Norm &norm) {
    const float *x = x_.of(tokens_ * width_);
    if (norm.weight.empty()) return x;
    float *out = norm_.of(tokens_ * width_);
    for (Index t = 0; t < tokens_; ++t) {
        kernels_.rows.rms_norm(x + t * width_, norm.weight.data(), norm.epsilon, width_, out + t * width_);
    }
    return out;
}

// x += residual * norm(output)
void Pass::add(const Norm &norm, float residual) {
    float *x = x_.of(tokens_ * width_), *output = output_.of(tokens_ * width_);
    if (!norm.weight.empty()) {
        for (Index t = 0; t < tokens_; ++t) {
            float *row = output + t * width_;
            kernels_.rows.rms_norm(row, norm.weight.data(), norm.epsilon, width_, row);
        }
    }
    kernels_.rows.add_scaled(x, output, residual, tokens_ * width_);
}

void Pass::project_inputs(const Job &job, const Layer &layer) {
    const Index stride = input_floats(layer), keys = layer.heads * layer.size;
    float *inputs = inputs_.of(tokens_ * stride);
    std::vector<Piece> pieces;
    float *to = inputs;
    for (const Projection &projection : layer.inputs) {
        pieces.push_back({projection, to});
        to += projection.matrix.rows;
    }
    multiply(pieces, normed(layer.before_attention), width_, stride);
    const RowsKernels &rows = kernels_.rows;
    Index first = 0;  // of this rope's pairs
    for (int i = 0; i < layer.rope; ++i) first += static_cast<Index>(spec_.ropes[static_cast<std::size_t>(i)].frequencies.size());
    for (Index t = 0; t < tokens_; ++t, inputs += stride) {
        for (const auto &[norm, at, heads] : {std::tuple{&layer.query_norm, Index{0}, layer.heads},
                                              std::tuple{&layer.key_norm, keys, layer.key_heads}}) {
            if (norm->weight.empty()) continue;
            const Index size = layer.norms_whole ? heads * layer.size : layer.size;
            for (Index i = 0; i < heads * layer.size; i += size) {
                rows.rms_norm(inputs + at + i, norm->weight.data(), norm->epsilon, size, inputs + at + i);
            }
        }
        if (layer.rope < 0) continue;
        const Rope &rope = spec_.ropes[static_cast<std::size_t>(layer.rope)];
        const auto pairs = static_cast<Index>(rope.frequencies.size());
        const Index heads = layer.heads + layer.key_heads;  // keys follow queries
        if (rope.input_scale != 1.0F) {
            for (Index head = 0; head < heads; ++head) {
                for (Index i = 0; i < 2 * pairs; ++i) inputs[head * layer.size + i] *= rope.input_scale;
            }
        }
        const Index place = static_cast<Index>(job.tokens.size()) * first + t * pairs;
        rows.rotate(inputs, heads, layer.size, pairs, cosines_.of(0) + place, sines_.of(0) + place, rope.traditional);
    }
}

void Pass::store(const Job &job, const Layer &layer, Index number) {
    const Index stride = input_floats(layer), queries = layer.heads * layer.size, keys = layer.key_heads * layer.size;
    const float *token = inputs_.of(tokens_ * stride) + queries;
    const Index offset = cache_.layer_offset(number);
    for (const JobPart &part : job.parts) {
        const auto &blocks = part.blocks[static_cast<std::size_t>(layer.kind)];
        for (Index at = part.position; at < part.position + part.tokens; ++at, token += stride) {
            std::byte *block = blocks[static_cast<std::size_t>(at / kBlockTokens)]->data + offset;
            kernels_.attention.store(cache_.format(), block, at % kBlockTokens, layer.key_heads, layer.size, token, token + keys);
        }
    }
}

void Pass::attend(const Job &job, const Layer &layer, Index number, bool last) {
    project_inputs(job, layer);
    store(job, layer, number);
    const Index stride = input_floats(layer), width = layer.heads * layer.size;
    const Index offset = cache_.layer_offset(number), window = spec_.windows[static_cast<std::size_t>(layer.kind)];
    float *inputs = inputs_.of(tokens_ * stride), *attended = attended_.of(tokens_ * width);
    std::vector<std::vector<const void *>> places(job.parts.size());
    std::vector<Attention> attentions;
    std::vector<Index> ends;  // of their shares
    Index shares = 0, scratch = 0, token = 0, kept = 0;
    double work = 0.0;
    for (std::size_t i = 0; i < job.parts.size(); ++i) {
        const JobPart &part = job.parts[i];
        // After the last layer only the wanted tokens count.
        const Index skipped = last ? part.tokens - part.wanted : 0, count = part.tokens - skipped;
        if (count > 0) {
            for (const BlockRef &block : part.blocks[static_cast<std::size_t>(layer.kind)]) {
                places[i].push_back(block == nullptr ? nullptr : block->data + offset);
            }
            const Attention a{inputs + (token + skipped) * stride, count, stride, layer.heads, layer.key_heads, layer.size,
                              cache_.format(), places[i].data(), part.position + skipped, window, layer.scale, layer.cap,
                              attended + kept * width, width, nullptr};
            attentions.push_back(a);
            scratch = std::max(scratch, kernels_.attention.scratch_floats(a));
            work += 4.0 * static_cast<double>(count * width) * static_cast<double>(part.position + part.tokens);
        }
        token += part.tokens;
        kept += count;
    }
    split_keys(attentions);
    for (std::size_t i = 1; i < attentions.size(); ++i) {
        const Attention &a = attentions[i];
        const Index first_key = window == 0 ? 0 : std::max<Index>(0, a.position + 1 - window);
        attentions[i - 1].after = a.blocks[first_key / kBlockTokens];
    }
    for (const Attention &a : attentions) {
        shares += kernels_.attention.shares(a);
        ends.push_back(shares);
    }
    prepare_scratch(scratch);
    crew_.run(shares, work, [&](Index first, Index end, int thread) {
        float *own = scratch_[static_cast<std::size_t>(thread)].of(scratch);
        for (std::size_t i = 0; i < attentions.size(); ++i) {
            const Index begin = i == 0 ? 0 : ends[i - 1];
            const Index low = std::max(first, begin), high = std::min(end, ends[i]);
            if (low < high) kernels_.attention.attend(attentions[i], low - begin, high - begin, own);
        }
    });
    for (const Attention &a : attentions) {
        if (a.partials != nullptr) kernels_.attention.merge(a, scratch_[0].of(scratch));
    }
    if (last) {
        keep_wanted(job, width_, x_.of(0));
        find_adapted(job, true);
    }
    tokens_ = kept;
    if (tokens_ == 0) return;
    multiply({{layer.output, output_.of(tokens_ * width_)}}, attended, width, width_);
    add(layer.after_attention, layer.residual);
}

// Lets threads share the keys of a token where there are too few heads for them.
void Pass::split_keys(std::vector<Attention> &attentions) {
    if (crew_.threads() == 1) return;
    constexpr Index kLine = 16;  // floats of 64 bytes
    std::vector<Index> places;
    Index floats = 0;
    for (const Attention &a : attentions) {
        places.push_back(floats);
        floats += steps_of(kernels_.attention.partial_floats(a), kLine) * kLine;
    }
    float *partials = partials_.of(floats);
    for (std::size_t i = 0; i < attentions.size(); ++i) {
        if (kernels_.attention.partial_floats(attentions[i]) > 0) attentions[i].partials = partials + places[i];
    }
}

// Moves the rows of wanted tokens to the front.
void Pass::keep_wanted(const Job &job, Index width, float *rows) {
    Index token = 0;
    float *to = rows;
    for (const JobPart &part : job.parts) {
        token += part.tokens;
        const auto count = static_cast<std::size_t>(part.wanted * width);
        std::memmove(to, rows + (token - part.wanted) * width, count * sizeof(float));
        to += count;
    }
}

// Takes the rows whose hidden states are wanted out of those of wanted tokens, and returns what the last norm gives of them.
std::vector<float> Pass::take_hidden(const Job &job) {
    std::vector<float> hidden;
    float *from = x_.of(0), *to = from;
    for (const JobPart &part : job.parts) {
        const Index floats = part.wanted * width_;
        if (part.hidden) {
            hidden.insert(hidden.end(), from, from + floats);
            tokens_ -= part.wanted;
        } else {
            std::memmove(to, from, static_cast<std::size_t>(floats) * sizeof(float));
            to += floats;
        }
        from += floats;
    }
    adapted_.clear();  // the output projection has no adapter, and its tokens lie elsewhere
    if (spec_.norm.weight.empty()) return hidden;
    for (float *row = hidden.data(), *end = row + hidden.size(); row != end; row += width_) {
        kernels_.rows.rms_norm(row, spec_.norm.weight.data(), spec_.norm.epsilon, width_, row);
    }
    return hidden;
}

// The tokens of each adapter, in their order; after `keep_wanted` only those are left.
void Pass::find_adapted(const Job &job, bool only_wanted) {
    adapted_.clear();
    Index token = 0;
    for (const JobPart &part : job.parts) {
        const Index count = only_wanted ? part.wanted : part.tokens, begin = token;
        token += count;
        if (part.adapter == nullptr || count == 0) continue;
        const auto is_same = [&](const Adapted &other) { return other.adapter == part.adapter.get(); };
        auto found = std::find_if(adapted_.begin(), adapted_.end(), is_same);
        if (found == adapted_.end()) found = adapted_.insert(found, Adapted{part.adapter.get(), {}});
        for (Index t = begin; t < token; ++t) found->tokens.push_back(t);
    }
}

void Pass::feed_forward(const Layer &layer) {
    const Index inner = layer.down.matrix.columns;
    float *wide = wide_.of(tokens_ * 2 * inner), *narrow = narrow_.of(tokens_ * inner);
    std::vector<Piece> pieces;
    float *to = wide;
    for (const Projection &projection : layer.gate_up) {
        pieces.push_back({projection, to});
        to += projection.matrix.rows;
    }
    multiply(pieces, normed(layer.before_mlp), width_, 2 * inner);
    crew_.run(tokens_, 16.0 * static_cast<double>(tokens_ * inner), [&](Index first, Index end, int) {
        for (Index t = first; t < end; ++t) {
            const float *gate = wide + t * 2 * inner;
            kernels_.rows.gated(layer.activation, gate, gate + inner, inner, narrow + t * inner);
        }
    });
    multiply({{layer.down, output_.of(tokens_ * width_)}}, narrow, inner, width_);
    add(layer.after_mlp, layer.residual);
}

void Pass::multiply(const std::vector<Piece> &pieces, const float *activations, Index columns, Index stride) {
    std::vector<Product> products;
    for (const Piece &piece : pieces) products.push_back({piece.projection.matrix, piece.out});
    multiply(products, {activations, tokens_, columns, columns}, stride);
    for (const Piece &piece : pieces) {
        const std::vector<float> &bias = piece.projection.bias;
        for (Index t = 0; t < tokens_ && !bias.empty(); ++t) {
            kernels_.rows.add_scaled(piece.out + t * stride, bias.data(), 1.0F, static_cast<Index>(bias.size()));
        }
    }
    adapt(pieces, activations, columns, stride);
}

void Pass::multiply(const std::vector<Product> &products, const Activations &given, Index stride) {
    const LinearKernels &linear = kernels_.linear;
    const Index tokens = given.tokens;
    // Products of one format read the same arranged activations.
    Index begin = 0;
    const auto count = static_cast<Index>(products.size());
    while (begin < count) {
        const Matrix &model = products[static_cast<std::size_t>(begin)].matrix;
        std::vector<Index> ends;
        Index end = begin, shares = 0, rows = 0;
        for (; end < count; ++end) {
            const Matrix &matrix = products[static_cast<std::size_t>(end)].matrix;
            if (matrix.format != model.format || matrix.group != model.group) break;
            shares += steps_of(matrix.rows, linear.row_step);
            rows += matrix.rows;
            ends.push_back(shares);
        }
        float *arranged = arranged_.of(linear.arranged_floats(model, arithmetic_, tokens));
        linear.arrange(model, arithmetic_, given, arranged);
        const Index scratch = linear.scratch_floats(model, arithmetic_, tokens);
        const double work = 2.0 * static_cast<double>(rows * given.columns) * static_cast<double>(tokens);
        prepare_scratch(scratch);
        crew_.run(shares, work, [&](Index first, Index last, int thread) {
            float *own = scratch_[static_cast<std::size_t>(thread)].of(scratch);
            for (std::size_t i = 0; i < ends.size(); ++i) {
                const Product &product = products[static_cast<std::size_t>(begin) + i];
                const Matrix &matrix = product.matrix;
                const Index start = i == 0 ? 0 : ends[i - 1];
                const Index low = std::max(first, start) - start, high = std::min(last, ends[i]) - start;
                if (low >= high) continue;
                linear.multiply(matrix, arithmetic_, arranged, tokens, low * linear.row_step,
                                std::min(matrix.rows, high * linear.row_step), product.out, stride, own);
            }
        });
        begin = end;
    }
}

void Pass::adapt(const std::vector<Piece> &pieces, const float *activations, Index columns, Index stride) {
    for (const Adapted &group : adapted_) {
        std::vector<std::pair<const LowRank *, float *>> found;
        Index ranks = 0;
        for (const Piece &piece : pieces) {
            const LowRank *pair = group.adapter->find(piece.projection.number);
            if (pair == nullptr) continue;
            found.emplace_back(pair, piece.out);
            ranks += pair->a.rows;
        }
        if (found.empty()) continue;
        const auto count = static_cast<Index>(group.tokens.size());
        float *x = gathered_.of(count * columns), *low = low_.of(count * ranks);
        for (Index i = 0; i < count; ++i) {
            const float *from = activations + group.tokens[static_cast<std::size_t>(i)] * columns;
            std::memcpy(x + i * columns, from, static_cast<std::size_t>(columns) * sizeof(float));
        }
        std::vector<Product> down;
        Index at = 0;
        for (const auto &[pair, out] : found) {
            down.push_back({pair->a, low + at});
            at += pair->a.rows;
        }
        multiply(down, {x, count, columns, columns}, ranks);
        at = 0;
        for (const auto &[pair, out] : found) {
            const Index rows = pair->b.rows;
            float *raised = raised_.of(count * rows), *to = out;
            multiply({Product{pair->b, raised}}, {low + at, count, pair->a.rows, ranks}, rows);
            at += pair->a.rows;
            crew_.run(count, static_cast<double>(count * rows), [&](Index first, Index last, int) {
                for (Index i = first; i < last; ++i) {
                    float *y = to + group.tokens[static_cast<std::size_t>(i)] * stride;
                    kernels_.rows.add_scaled(y, raised + i * rows, 1.0F, rows);
                }
            });
        }
    }
}

}  // namespace mlx_sidecar::cpu
