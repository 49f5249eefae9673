#include "pages.hpp"

#include <algorithm>
#include <cstdint>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace mlx_sidecar::cpu {
namespace {

constexpr Index kHugeBytes = 2 << 20;
constexpr Index kSlabBytes = 32 << 20;
// Below this a walk over all layers of a piece meets too few pages to wait for them.
constexpr Index kLeastBytes = 256 << 10;
// Between the arrays of a model lie the headers of an allocator and small vectors.
constexpr Index kGapBytes = 64 << 10;

}  // namespace

#ifdef __linux__

namespace {

#ifndef MADV_COLLAPSE
constexpr int MADV_COLLAPSE = 25;
#endif

std::uintptr_t huge_page_after(std::uintptr_t at) { return (at + kHugeBytes - 1) / kHugeBytes * kHugeBytes; }

std::size_t slab_bytes(Index pieces, Index piece_bytes) {
    return static_cast<std::size_t>(pieces * piece_bytes + kHugeBytes);
}

}  // namespace

void use_huge_pages(std::vector<Range> ranges) {
    const auto begin_of = [](const Range &range) { return reinterpret_cast<std::uintptr_t>(range.begin); };
    std::sort(ranges.begin(), ranges.end(), [&](const Range &a, const Range &b) { return begin_of(a) < begin_of(b); });
    for (std::size_t i = 0; i < ranges.size();) {
        std::uintptr_t at = huge_page_after(begin_of(ranges[i])), end = 0;
        do {
            end = std::max(end, begin_of(ranges[i]) + static_cast<std::uintptr_t>(ranges[i].bytes));
            ++i;
        } while (i < ranges.size() && begin_of(ranges[i]) <= end + kGapBytes);
        // Page by page, because one that cannot be moved ends the whole call.
        for (; at + kHugeBytes <= end; at += kHugeBytes) {
            void *const page = reinterpret_cast<void *>(at);
            if (madvise(page, kHugeBytes, MADV_HUGEPAGE) == 0) madvise(page, kHugeBytes, MADV_COLLAPSE);
        }
    }
}

bool Slab::suits(Index piece_bytes) { return piece_bytes >= kLeastBytes && piece_bytes % sysconf(_SC_PAGESIZE) == 0; }

Slab::Slab(Index piece_bytes)
    : piece_bytes_(piece_bytes),
      pieces_(std::max<Index>(1, kSlabBytes / piece_bytes)),
      mapped_(mmap(nullptr, slab_bytes(pieces_, piece_bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (mapped_ == MAP_FAILED) throw std::bad_alloc();
    first_ = reinterpret_cast<char *>(huge_page_after(reinterpret_cast<std::uintptr_t>(mapped_)));
    // Systems without huge pages refuse, and that is all.
    madvise(first_, static_cast<std::size_t>(pieces_ * piece_bytes_), MADV_HUGEPAGE);
}

Slab::~Slab() { munmap(mapped_, slab_bytes(pieces_, piece_bytes_)); }

void *Slab::take() { return first_ + piece_bytes_ * taken_++; }

void Slab::give_back(void *piece) const { madvise(piece, static_cast<std::size_t>(piece_bytes_), MADV_DONTNEED); }

#else

void use_huge_pages(std::vector<Range>) {}

bool Slab::suits(Index) { return false; }

Slab::Slab(Index piece_bytes) : piece_bytes_(piece_bytes), pieces_(0), mapped_(nullptr), first_(nullptr) {}

Slab::~Slab() = default;

void *Slab::take() { return nullptr; }

void Slab::give_back(void *) const {}

#endif

}  // namespace mlx_sidecar::cpu
