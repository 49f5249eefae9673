// Memory in huge pages, where the system has them. In pages of 4 KiB, a walk over weights, or over keys and values, waits at
// each page for its entry in the page table.
#pragma once

#include <vector>

#include "matrix.hpp"

namespace mlx_sidecar::cpu {

struct Range {
    const void *begin;
    Index bytes;
};

// Lets the system move memory that is there into huge pages, its contents as they are: ranges next to each other together,
// and only whole pages. Ranges may overlap. It does nothing where the system does not.
void use_huge_pages(std::vector<Range> ranges);

// Address space for equally large pieces side by side, so that a huge page may hold parts of two.
class Slab {
public:
    // Whether pieces of this size are to be taken from slabs: large ones are, where the system has huge pages.
    static bool suits(Index piece_bytes);

    explicit Slab(Index piece_bytes);  // throws std::bad_alloc
    ~Slab();
    Slab(const Slab &) = delete;
    Slab &operator=(const Slab &) = delete;

    bool is_full() const { return taken_ == pieces_; }
    // A piece that has not been taken before, aligned to 4 KiB, unless it is full. For one thread at a time.
    void *take();
    // Gives the memory of a piece back to the system. Any thread may do so.
    void give_back(void *piece) const;

private:
    const Index piece_bytes_, pieces_;
    Index taken_ = 0;
    void *mapped_;
    char *first_;
};

}  // namespace mlx_sidecar::cpu
