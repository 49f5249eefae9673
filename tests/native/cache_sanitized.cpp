// Rows, held blocks and their pages through many random operations, for sanitizers to watch. Fails, with a line that says
// where, if tokens are not what was put, if memory that was given back stays, or if some is still counted at the end.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>
#include <random>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "cache.hpp"

using namespace mlx_sidecar::cpu;

namespace {

constexpr Index kHeads = 2, kSize = 64, kPage = 4096;
std::mt19937_64 generator(1);

Index random_below(Index end) { return static_cast<Index>(generator() % static_cast<std::uint64_t>(end)); }

#define REQUIRE(held) \
    if (!(held)) std::exit((std::printf("line %d: %s\n", __LINE__, #held), 1))

Spec spec_of(Index large_layers) {
    Spec spec;
    spec.windows = {0, 100};
    for (Index i = 0; i <= large_layers; ++i) {
        Layer layer;
        layer.key_heads = kHeads;
        layer.size = kSize;
        layer.kind = i == large_layers ? 1 : 0;
        spec.layers.push_back(layer);
    }
    return spec;
}

// `Number` is what keys and values are stored as.
template <typename Number>
class Walk {
    // Tokens are told apart by a stamp each.
    using Stamps = std::vector<Number>;

    struct Held {
        std::vector<Blocks> kinds;
        Stamps stamps;
    };

public:
    Walk(const Spec &spec, Format format) : cache_(spec, format) {}

    void step() {
        switch (random_below(6)) {
            case 0: return begin(nullptr);
            case 1: return held_.empty() ? begin(nullptr) : begin(&held_[index_below(held_.size())]);
            case 2: return grow();
            case 3: return hold();
            case 4: return close();
            default: return let_go();
        }
    }

    void check() {
        for (const auto &[row, stamps] : rows_) check_held(captured(row, stamps));
        for (const Held &held : held_) check_held(held);
    }

private:
    static std::size_t index_below(std::size_t end) { return generator() % end; }

    void begin(const Held *held) {
        if (rows_.size() > 4) return;
        const Index row = next_++;
        cache_.open(row);
        rows_[row] = held == nullptr ? Stamps{} : held->stamps;
        if (held != nullptr) {
            const auto length = static_cast<Index>(held->stamps.size());
            for (const Blocks &blocks : held->kinds) REQUIRE(cache_.adopt(row, blocks, 0, length));
            cache_.begin_at(row, length);
        }
    }

    void grow() {
        if (rows_.empty()) return;
        auto &[row, stamps] = *std::next(rows_.begin(), random_below(static_cast<Index>(rows_.size())));
        const auto length = static_cast<Index>(stamps.size());
        const Index count = 1 + random_below(150);
        cache_.extend(row, count);
        const std::uint64_t end = sizeof(Number) == 2 ? 60000 : 1000000;
        for (Index i = 0; i < count; ++i) stamps.push_back(static_cast<Number>(generator() % end));
        for (int kind = 0; kind < 2; ++kind) {
            const Index members = cache_.kinds()[static_cast<std::size_t>(kind)]->members();
            std::vector<Number> entries;
            for (Index i = 0; i < members * kHeads; ++i) {
                for (Index t = length; t < length + count; ++t) {
                    for (Index j = 0; j < kSize; ++j) entries.push_back(stamps[static_cast<std::size_t>(t)]);
                }
            }
            cache_.put(row, kind, length, length + count, entries.data());
        }
    }

    Held captured(Index row, const Stamps &stamps) {
        Held held{{}, stamps};
        for (int kind = 0; kind < 2; ++kind) {
            held.kinds.push_back(cache_.capture(row, kind, 0, static_cast<Index>(stamps.size())));
        }
        return held;
    }

    void hold() {
        if (rows_.empty() || held_.size() > 4) return;
        const auto &[row, stamps] = *std::next(rows_.begin(), random_below(static_cast<Index>(rows_.size())));
        held_.push_back(captured(row, stamps));
    }

    void close() {
        if (rows_.empty()) return;
        const auto found = std::next(rows_.begin(), random_below(static_cast<Index>(rows_.size())));
        cache_.close(found->first);
        rows_.erase(found);
    }

    void let_go() {
        if (!held_.empty()) held_.erase(std::next(held_.begin(), random_below(static_cast<Index>(held_.size()))));
    }

    static void check_held(const Held &held) {
        for (const Blocks &blocks : held.kinds) {
            const Index count = blocks.stop - blocks.start, members = blocks.kind->members();
            std::vector<Number> entries(static_cast<std::size_t>(members * kHeads * count * kSize));
            blocks.read(0, members, blocks.start, blocks.stop, entries.data());
            for (std::size_t i = 0; i < entries.size(); ++i) {
                const Index token = blocks.start + static_cast<Index>(i) / kSize % count;
                REQUIRE(entries[i] == held.stamps[static_cast<std::size_t>(token)]);
            }
        }
    }

    Cache cache_;
    std::map<Index, Stamps> rows_;
    std::vector<Held> held_;
    Index next_ = 0;
};

bool is_resident(void *page) {
    unsigned char state = 0;
    REQUIRE(mincore(page, kPage, &state) == 0);
    return (state & 1) != 0;
}

void give_back_pieces() {
    constexpr Index kBytes = 73 * kPage;
    REQUIRE(Slab::suits(kBytes));
    Slab slab(kBytes);
    std::vector<char *> pieces;
    while (!slab.is_full()) {
        pieces.push_back(static_cast<char *>(slab.take()));
        std::fill_n(pieces.back(), kBytes, static_cast<char>(pieces.size()));
    }
    REQUIRE(pieces.size() > 2);
    for (std::size_t i = 0; i < pieces.size(); i += 2) slab.give_back(pieces[i]);
    for (std::size_t i = 0; i < pieces.size(); ++i) {
        for (Index at = 0; at < kBytes; at += kPage) {
            REQUIRE(is_resident(pieces[i] + at) == (i % 2 == 1));
            REQUIRE(i % 2 == 0 || pieces[i][at] == static_cast<char>(i + 1));
        }
    }
}

void move_into_huge_pages() {
    std::vector<std::uint64_t> numbers(1 << 20);
    for (auto &number : numbers) number = generator();
    const auto before = numbers;
    for (int round = 0; round < 20; ++round) {
        std::vector<Range> ranges;
        for (Index i = random_below(6); i > 0; --i) {
            const Index first = random_below(1 << 20), count = random_below((1 << 20) - first + 1);
            ranges.push_back({numbers.data() + first, count * static_cast<Index>(sizeof(std::uint64_t))});
        }
        use_huge_pages(ranges);
        REQUIRE(numbers == before);
    }
}

template <typename Number>
void walk(Format format) {
    for (const Index large_layers : {5, 1}) {  // blocks of 320 and of 64 KiB, or of half as much
        const Spec spec = spec_of(large_layers);
        Walk<Number> walk(spec, format);
        for (int i = 0; i < 150; ++i) {
            walk.step();
            walk.check();
        }
    }
}

}  // namespace

int main() {
    if (sysconf(_SC_PAGESIZE) == kPage) give_back_pieces();
    move_into_huge_pages();
    walk<float>(Format::f32);
    walk<Half>(Format::f16);
    REQUIRE(allocated_bytes() == 0);
    std::puts("as it was put");
}
