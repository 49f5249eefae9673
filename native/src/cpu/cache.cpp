#include "cache.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>
#include <stdexcept>
#include <utility>

namespace mlx_sidecar::cpu {
namespace {

constexpr std::align_val_t kAlignment{64};

std::atomic<Index> allocated{0};

Index block_of(Index token) { return token / kBlockTokens; }

template <typename T>
auto &element(T &container, Index index) {
    return container[static_cast<std::size_t>(index)];
}

// The part of one member (keys or values of a layer) and one head in a block.
template <typename Number>
Number *part_of(const Block &block, const Kind &kind, Index member, Index head) {
    return reinterpret_cast<Number *>(block.data + member / 2 * kind.layer_bytes() +
                                      (2 * head + member % 2) * kind.part_bytes());
}

template <typename Number>
void read_as(const Blocks &held, Index first, Index last, Index from, Index to, Number *entries) {
    const Kind &kind = *held.kind;
    for (Index member = first; member < last; ++member) {
        for (Index head = 0; head < kind.key_heads; ++head) {
            for (Index token = from; token < to; ++token, entries += kind.size) {
                const Block &block = *element(held.blocks, block_of(token) - held.first_block);
                const Number *part = part_of<Number>(block, kind, member, head);
                const Index place = token % kBlockTokens;
                if (member % 2 == 1) {
                    std::copy_n(part + place * kind.size, kind.size, entries);
                    continue;
                }
                for (Index i = 0; i < kind.size; ++i) entries[i] = part[i * kBlockTokens + place];
            }
        }
    }
}

// One token of `count`, of which `entries` has the first.
template <typename Number>
void put_as(const Block &block, const Kind &kind, Index token, Index count, const Number *entries) {
    const Index place = token % kBlockTokens;
    for (Index member = 0; member < kind.members(); ++member) {
        for (Index head = 0; head < kind.key_heads; ++head, entries += count * kind.size) {
            Number *part = part_of<Number>(block, kind, member, head);
            if (member % 2 == 1) {
                std::copy_n(entries, kind.size, part + place * kind.size);
                continue;
            }
            for (Index i = 0; i < kind.size; ++i) part[i * kBlockTokens + place] = entries[i];
        }
    }
}

}  // namespace

Index allocated_bytes() { return allocated; }

void count_allocated(Index bytes) { allocated += bytes; }

Block::Block(Index size, std::shared_ptr<Slab> slab)
    : slab_(std::move(slab)),
      data(static_cast<std::byte *>(slab_ != nullptr ? slab_->take()
                                                     : ::operator new(static_cast<std::size_t>(size), kAlignment))),
      bytes(size) {
    count_allocated(bytes);
}

Block::~Block() {
    count_allocated(-bytes);
    if (slab_ == nullptr) {
        ::operator delete(data, kAlignment);
    } else {
        slab_->give_back(data);
    }
}

BlockRef BlockMaker::make() {
    if (Slab::suits(bytes_) && (slab_ == nullptr || slab_->is_full())) slab_ = std::make_shared<Slab>(bytes_);
    return std::make_shared<Block>(bytes_, slab_);
}

Cache::Cache(const Spec &spec, Format format) : format_(format), offsets_(spec.layers.size()) {
    std::vector<Kind> kinds(spec.windows.size());
    for (std::size_t i = 0; i < kinds.size(); ++i) kinds[i].window = spec.windows[i];
    for (std::size_t i = 0; i < spec.layers.size(); ++i) {
        const Layer &layer = spec.layers[i];
        Kind &kind = kinds.at(static_cast<std::size_t>(layer.kind));
        if (!kind.layers.empty() && (kind.key_heads != layer.key_heads || kind.size != layer.size)) {
            throw std::invalid_argument("layers that see equally far have keys of different shapes");
        }
        kind.format = format;
        kind.key_heads = layer.key_heads;
        kind.size = layer.size;
        offsets_[i] = static_cast<Index>(kind.layers.size()) * kind.layer_bytes();
        kind.layers.push_back(static_cast<Index>(i));
    }
    for (Kind &kind : kinds) {
        makers_.emplace_back(kind.block_bytes());
        kinds_.push_back(std::make_shared<const Kind>(std::move(kind)));
    }
}

void Cache::open(Index row) {
    if (!rows_.try_emplace(row).second) throw std::invalid_argument("the row is open already");
    rows_[row].chains.resize(kinds_.size());
}

void Cache::adapt(Index row, std::shared_ptr<const Adapter> adapter) { at(row).adapter = std::move(adapter); }

void Cache::close(Index row) {
    if (rows_.erase(row) == 0) throw std::invalid_argument("there is no such row");
}

Row &Cache::at(Index number) {
    const auto found = rows_.find(number);
    if (found == rows_.end()) throw std::invalid_argument("there is no such row");
    return found->second;
}

const Row &Cache::row(Index number) const { return const_cast<Cache *>(this)->at(number); }

Chain &Cache::chain(Index number, int kind) {
    Row &row = at(number);
    if (kind < 0 || kind >= static_cast<int>(row.chains.size())) throw std::invalid_argument("there is no such kind");
    return element(row.chains, kind);
}

Row &Cache::extend(Index number, Index tokens) {
    Row &row = at(number);
    for (std::size_t k = 0; k < kinds_.size(); ++k) {
        Chain &chain = row.chains[k];
        const Kind &kind = *kinds_[k];
        const Index seen = kind.window == 0 ? 0 : std::max<Index>(0, row.length + 1 - kind.window);
        for (Index b = block_of(chain.first); b < block_of(seen); ++b) {
            element(chain.blocks, b).reset();
            chain.first = (b + 1) * kBlockTokens;
        }
        for (Index b = block_of(row.length); b <= block_of(row.length + tokens - 1); ++b) {
            writable(chain, static_cast<int>(k), b);
        }
    }
    row.floor = row.length;
    row.length += tokens;
    return row;
}

Block &Cache::writable(Chain &chain, int kind, Index block) {
    if (block >= static_cast<Index>(chain.blocks.size())) chain.blocks.resize(static_cast<std::size_t>(block) + 1);
    BlockRef &ref = element(chain.blocks, block);
    if (ref == nullptr) {
        ref = element(makers_, kind).make();
    } else if (ref->shared) {
        BlockRef copy = element(makers_, kind).make();
        std::memcpy(copy->data, ref->data, static_cast<std::size_t>(ref->bytes));
        ref = std::move(copy);
    }
    return *ref;
}

bool Cache::truncate(Index number, Index length) {
    Row &row = at(number);
    const bool windowed = std::any_of(kinds_.begin(), kinds_.end(), [](const auto &kind) { return kind->window != 0; });
    if ((windowed && length < row.floor) || length < 0 || length > row.length) return false;
    row.length = length;
    return true;
}

Blocks Cache::capture(Index number, int kind, Index start, Index stop) const {
    const Row &row = this->row(number);
    const Chain &chain = const_cast<Cache *>(this)->chain(number, kind);
    const Index first = std::min(std::max(start, chain.first), stop);
    Blocks held{element(kinds_, kind), kind, block_of(first), first, stop, {}};
    if (stop > row.length) throw std::invalid_argument("the row has fewer tokens");
    for (Index b = block_of(first); b * kBlockTokens < stop && first < stop; ++b) {
        const BlockRef &ref = element(chain.blocks, b);
        ref->shared = true;
        held.blocks.push_back(ref);
    }
    return held;
}

bool Cache::adopt(Index number, const Blocks &held, Index start, Index stop) {
    Chain &chain = this->chain(number, held.number);
    const Kind &own = *element(kinds_, held.number), &other = *held.kind;
    if (own.layers != other.layers || own.key_heads != other.key_heads || own.size != other.size ||
        own.format != other.format) {
        return false;
    }
    const Index first = std::max(start, held.start);
    if (stop > held.stop) throw std::invalid_argument("the blocks have fewer tokens");
    if (first >= stop) return true;
    if (chain.blocks.empty()) chain.first = first;
    for (Index b = block_of(first); b * kBlockTokens < stop; ++b) {
        if (b >= static_cast<Index>(chain.blocks.size())) chain.blocks.resize(static_cast<std::size_t>(b) + 1);
        element(chain.blocks, b) = held.blocks.at(static_cast<std::size_t>(b - held.first_block));
    }
    return true;
}

void Cache::put(Index number, int kind_number, Index start, Index stop, const void *entries) {
    Chain &chain = this->chain(number, kind_number);
    const Kind &kind = *element(kinds_, kind_number);
    if (chain.blocks.empty()) chain.first = start;
    for (Index token = start; token < stop; ++token) {
        const Block &block = writable(chain, kind_number, block_of(token));
        const Index count = stop - start, first = (token - start) * kind.size;
        if (kind.format == Format::f16) {
            put_as(block, kind, token, count, static_cast<const Half *>(entries) + first);
        } else {
            put_as(block, kind, token, count, static_cast<const float *>(entries) + first);
        }
    }
}

void Cache::begin_at(Index number, Index length) {
    Row &row = at(number);
    for (std::size_t k = 0; k < kinds_.size(); ++k) {
        const Index window = kinds_[k]->window;
        const Index wanted = window == 0 ? 0 : std::max<Index>(0, length + 1 - window);
        const Chain &chain = row.chains[k];
        bool whole = chain.first <= wanted || length == 0;
        for (Index b = block_of(wanted); b * kBlockTokens < length; ++b) {
            whole = whole && b < static_cast<Index>(chain.blocks.size()) && element(chain.blocks, b) != nullptr;
        }
        if (!whole) throw std::invalid_argument("the row lacks tokens that it is to begin with");
    }
    row.length = row.floor = length;
}

void Blocks::read(Index first, Index last, Index from, Index to, void *entries) const {
    if (from < start || to > stop || first < 0 || last > kind->members()) {
        throw std::invalid_argument("the blocks have fewer tokens or members");
    }
    if (kind->format == Format::f16) return read_as(*this, first, last, from, to, static_cast<Half *>(entries));
    read_as(*this, first, last, from, to, static_cast<float *>(entries));
}

}  // namespace mlx_sidecar::cpu
