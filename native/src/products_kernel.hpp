// The kernels behind products.hpp, for any vector type; each instruction set compiles them in a file of its own.
//
// Nothing here sums along K in any order but k = 0, 1, 2 ...: vectors lie along the columns of C. The blocks are those
// of Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008): a block of A is copied once and
// meets panels of B, which are copied too where that pays. Between blocks of K the sums wait in C.
//
// All names are in an unnamed namespace: a function shared between files could be the copy of the wrong instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "products.hpp"

namespace mlx_sidecar {
namespace {

using Index = std::ptrdiff_t;

// Depth of a block, and the distance between its rows: an odd number of cache lines, so that rows do not compete for
// the same places in the cache. Rows of a block: with this depth, half of a 1 MiB second-level cache.
constexpr Index kDepth = 384, kStride = kDepth + 16, kMostRows = 288;

inline Index lesser(Index a, Index b) { return a < b ? a : b; }

// V, a vector of V::kWidth floats, brings load, store, broadcast, fma and transpose; V::kRows x 2 of them are the tile
// of C that its registers hold.
template <typename V>
struct Kernels {
    static constexpr Index kWidth = V::kWidth, kColumns = 2 * V::kWidth;
    // A B of more columns than kWide, columns in lines, is read kStrip ks at a time by few rows.
    static constexpr Index kWide = 256, kStrip = 16;

    struct Scratch {
        alignas(64) float a[kMostRows * kStride];
        alignas(64) float panel[kDepth * kColumns];
    };

    // A part of C; `fresh`: nothing has been summed in it yet.
    struct Sums {
        float *c;
        Index ldc;
        bool fresh;
    };

    static void multiply(const Product &p) {
        static thread_local Scratch scratch;
        for (Index row = 0; row < p.m; row += kMostRows) {
            const Index rows = lesser(kMostRows, p.m - row);
            // Few rows leave room for many depths, so that a B with its ks in lines is read line by line. One with its
            // columns in lines is read a few lines at a time.
            const bool wide = !p.b.transposed && rows <= V::kRows && p.n > kWide;
            const Index slab = wide ? kStrip : kMostRows / rows * kDepth;
            for (Index k = 0; k < p.k; k += slab) multiply_slab(p, row, rows, k, lesser(slab, p.k - k), scratch);
        }
    }

    static void multiply_slab(const Product &p, Index row, Index rows, Index k0, Index depth, Scratch &scratch) {
        for (Index k = 0; k < depth; k += kDepth) {
            copy_a(p, row, rows, k0 + k, lesser(kDepth, depth - k), scratch.a + k / kDepth * rows * kStride);
        }
        // A last panel that lacks columns may take some from the one before, where it computes them anew.
        const Index last = p.beta == 0.0F && depth == p.k && p.n >= kColumns ? p.n - kColumns : p.n;
        for (Index next = 0; next < p.n; next += kColumns) {
            const Index column = lesser(next, last);
            for (Index k = 0; k < depth; k += kDepth) {
                const Sums sums{p.c + row * p.ldc + column, p.ldc, p.beta == 0.0F && k0 + k == 0};
                multiply_panel(p, column, k0 + k, lesser(kDepth, depth - k),
                               scratch.a + k / kDepth * rows * kStride, rows, sums, scratch.panel);
            }
        }
    }

    // alpha * op(A)[row.., k..] to `to`, row by row at a distance of kStride.
    static void copy_a(const Product &p, Index row, Index rows, Index k, Index depth, float *to) {
        const Index next_row = p.a.transposed ? 1 : p.a.ld, next_k = p.a.transposed ? p.a.ld : 1;
        for (Index i = 0; i < rows; ++i) {
            const float *from = p.a.data + (row + i) * next_row + k * next_k;
            for (Index j = 0; j < depth; ++j) to[i * kStride + j] = p.alpha * from[j * next_k];
        }
    }

    static void multiply_panel(const Product &p, Index column, Index k, Index depth, const float *a, Index rows,
                               Sums sums, float *panel) {
        const Index columns = lesser(kColumns, p.n - column), ldb = p.b.ld;
        const float *b = p.b.data + (p.b.transposed ? column * ldb + k : k * ldb + column);
        if (columns < kColumns) {
            copy_panel(b, ldb, p.b.transposed, columns, depth, panel);
            multiply_narrow(a, rows, panel, depth, columns, sums);
        } else if (p.b.transposed && rows <= V::kRows) {
            multiply_few(a, rows, b, ldb, depth, sums);
        } else if (!p.b.transposed && rows <= V::kRows) {
            multiply_tiles(a, rows, b, ldb, depth, sums);
        } else {
            copy_panel(b, ldb, p.b.transposed, columns, depth, panel);
            multiply_tiles(a, rows, panel, kColumns, depth, sums);
        }
    }

    // op(B)[k.., column..] to `panel`, one row of kColumns for each k; 0 beyond `columns`.
    static void copy_panel(const float *b, Index ldb, bool transposed, Index columns, Index depth, float *panel) {
        if (!transposed) {
            for (Index k = 0; k < depth; ++k) {
                for (Index j = 0; j < columns; ++j) panel[k * kColumns + j] = b[k * ldb + j];
                for (Index j = columns; j < kColumns; ++j) panel[k * kColumns + j] = 0.0F;
            }
            return;
        }
        for (Index half = 0; half < kColumns; half += kWidth) {
            const float *from = b + half * ldb;
            const Index used = columns < half ? 0 : lesser(kWidth, columns - half);
            Index count = head(from, ldb);
            for (Index k = 0; k < depth; k += count, count = kWidth) {
                count = lesser(count == 0 ? kWidth : count, depth - k);
                V turned[kWidth];
                const V *const first = turn(from, ldb, used, {k, count, depth}, turned);
                for (Index i = 0; i < count; ++i) first[i].store(panel + (k + i) * kColumns + half);
            }
        }
    }

    // How many ks of a transposed B come before the first whole cache line: a line that two squares share is often lost
    // between them, for rows compete for the same places in the cache. 0 where the rows do not lie alike to the lines.
    static Index head(const float *b, Index ldb) {
        if (ldb % 16 != 0) return 0;
        return -static_cast<Index>(reinterpret_cast<std::uintptr_t>(b) / sizeof(float)) & (kWidth - 1);
    }

    // `count` ks from `start`, of `depth` that are there.
    struct Part {
        Index start, count, depth;
    };

    // A part of a transposed B, at most kWidth ks of `columns` stored rows: answer[i] is its k number i, 0 beyond
    // `columns`. What the answer points to lies in `turned`.
    static const V *turn(const float *b, Index ldb, Index columns, Part part, V *turned) {
        alignas(64) float square[kWidth * kWidth];
        if (part.depth >= kWidth) {
            // A whole square that holds the part.
            const Index start = lesser(part.start, part.depth - kWidth);
            if (columns == kWidth) {
                V::transpose(b + start, ldb, turned);
            } else {
                for (Index j = 0; j < kWidth; ++j) {
                    (j < columns ? V::load(b + j * ldb + start) : V::broadcast(0.0F)).store(square + j * kWidth);
                }
                V::transpose(square, kWidth, turned);
            }
            return turned + (part.start - start);
        }
        for (Index j = 0; j < kWidth; ++j) {
            for (Index i = 0; i < kWidth; ++i) {
                square[j * kWidth + i] = j < columns && i < part.count ? b[j * ldb + part.start + i] : 0.0F;
            }
        }
        V::transpose(square, kWidth, turned);
        return turned;
    }

    // The last columns of C, fewer than a tile has.
    static void multiply_narrow(const float *a, Index rows, const float *panel, Index depth, Index columns, Sums sums) {
        alignas(64) float tile[V::kRows * kColumns] = {};
        for (Index row = 0; row < rows; row += V::kRows) {
            const Index count = lesser(V::kRows, rows - row);
            float *c = sums.c + row * sums.ldc;
            for (Index i = 0; i < count && !sums.fresh; ++i) {
                for (Index j = 0; j < columns; ++j) tile[i * kColumns + j] = c[i * sums.ldc + j];
            }
            multiply_tiles(a + row * kStride, count, panel, kColumns, depth, {tile, kColumns, sums.fresh});
            for (Index i = 0; i < count; ++i) {
                for (Index j = 0; j < columns; ++j) c[i * sums.ldc + j] = tile[i * kColumns + j];
            }
        }
    }

    // All rows times kColumns columns of B, whose row k is at b + k * ldb.
    static void multiply_tiles(const float *a, Index rows, const float *b, Index ldb, Index depth, Sums sums) {
        // Tiles of about the same height: a tile of one row would wait for its additions.
        const Index tiles = (rows + V::kRows - 1) / V::kRows;
        for (Index i = 0, row = 0; i < tiles; ++i) {
            const Index end = rows * (i + 1) / tiles;
            tile_of<V::kRows>(end - row, a + row * kStride, b, ldb, depth,
                              {sums.c + row * sums.ldc, sums.ldc, sums.fresh});
            row = end;
        }
    }

    template <int Rows>
    static void tile_of(Index rows, const float *a, const float *b, Index ldb, Index depth, Sums sums) {
        if constexpr (Rows > 1) {
            if (rows < Rows) return tile_of<Rows - 1>(rows, a, b, ldb, depth, sums);
        }
        tile<Rows>(a, b, ldb, depth, sums);
    }

    template <int Rows>
    static void tile(const float *a, const float *b, Index ldb, Index depth, Sums sums) {
        V left[Rows], right[Rows];
#pragma GCC unroll 16
        for (int i = 0; i < Rows; ++i) {
            left[i] = sums.fresh ? V::broadcast(0.0F) : V::load(sums.c + i * sums.ldc);
            right[i] = sums.fresh ? V::broadcast(0.0F) : V::load(sums.c + i * sums.ldc + kWidth);
        }
        for (Index k = 0; k < depth; ++k) {
            const V b_left = V::load(b + k * ldb), b_right = V::load(b + k * ldb + kWidth);
#pragma GCC unroll 16
            for (int i = 0; i < Rows; ++i) {
                const V factor = V::broadcast(a[i * kStride + k]);
                left[i] = V::fma(factor, b_left, left[i]);
                right[i] = V::fma(factor, b_right, right[i]);
            }
        }
#pragma GCC unroll 16
        for (int i = 0; i < Rows; ++i) {
            left[i].store(sums.c + i * sums.ldc);
            right[i].store(sums.c + i * sums.ldc + kWidth);
        }
    }

    // A tile's rows at most, times kColumns columns of a B that is stored transposed.
    static void multiply_few(const float *a, Index rows, const float *b, Index ldb, Index depth, Sums sums) {
        for (Index half = 0; half < kColumns; half += kWidth) {
            few_of<V::kRows>(rows, a, b + half * ldb, ldb, depth, {sums.c + half, sums.ldc, sums.fresh});
        }
    }

    template <int Rows>
    static void few_of(Index rows, const float *a, const float *b, Index ldb, Index depth, Sums sums) {
        if constexpr (Rows > 1) {
            if (rows < Rows) return few_of<Rows - 1>(rows, a, b, ldb, depth, sums);
        }
        few<Rows>(a, b, ldb, depth, sums);
    }

    template <int Rows>
    static void few(const float *a, const float *b, Index ldb, Index depth, Sums sums) {
        V sum[Rows];
        for (int i = 0; i < Rows; ++i) sum[i] = sums.fresh ? V::broadcast(0.0F) : V::load(sums.c + i * sums.ldc);
        Index k = lesser(head(b, ldb), depth);
        if (k > 0) add_part(a, b, ldb, {0, k, depth}, sum);
        for (; k + kWidth <= depth; k += kWidth) {
            V turned[kWidth];
            V::transpose(b + k, ldb, turned);
#pragma GCC unroll 16
            for (Index j = 0; j < kWidth; ++j) {
#pragma GCC unroll 16
                for (int i = 0; i < Rows; ++i) sum[i] = V::fma(V::broadcast(a[i * kStride + k + j]), turned[j], sum[i]);
            }
        }
        if (k < depth) add_part(a, b, ldb, {k, depth - k, depth}, sum);
        for (int i = 0; i < Rows; ++i) sum[i].store(sums.c + i * sums.ldc);
    }

    template <int Rows>
    static void add_part(const float *a, const float *b, Index ldb, Part part, V (&sum)[Rows]) {
        V turned[kWidth];
        const V *const first = turn(b, ldb, kWidth, part, turned);
        for (Index j = 0; j < part.count; ++j) {
            for (int i = 0; i < Rows; ++i) {
                sum[i] = V::fma(V::broadcast(a[i * kStride + part.start + j]), first[j], sum[i]);
            }
        }
    }
};

}  // namespace
}  // namespace mlx_sidecar
