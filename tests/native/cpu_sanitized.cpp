// The kernels of one instruction set (-DLANES) over small inputs in buffers of their exact size, for sanitizers to watch.
// Prints a checksum of all results; sets with fused multiplication and addition print the same.
#include LANES

#include <cstdio>
#include <memory>
#include <new>
#include <vector>

#include "linear_kernel.hpp"

namespace mlx_sidecar::cpu {
namespace {

class Random {
public:
    std::uint32_t word() {
        state_ = state_ * 6364136223846793005U + 1442695040888963407U;
        return static_cast<std::uint32_t>(state_ >> 32);
    }
    // From -1 to 1.
    float number() { return static_cast<float>(word() >> 8) * 0x1p-23F - 1.0F; }

private:
    std::uint64_t state_ = 1;
};

class Checksum {
public:
    void add(float x) {
        std::uint32_t bits;
        __builtin_memcpy(&bits, &x, sizeof bits);
        if (x != x) bits = 0x7fc00000U;
        sum_ = (sum_ ^ bits) * 1099511628211U;
    }
    std::uint64_t value() const { return sum_; }

private:
    std::uint64_t sum_ = 14695981039346656037U;
};

// Floats aligned to 64 bytes, just as many as said.
struct Free {
    void operator()(float *floats) const { ::operator delete[](floats, std::align_val_t{64}); }
};
std::unique_ptr<float[], Free> floats(Index count) {
    return std::unique_ptr<float[], Free>(new (std::align_val_t{64}) float[static_cast<std::size_t>(count)]);
}

std::vector<std::uint8_t> numbers(Format format, Index count, Random &random) {
    std::vector<std::uint8_t> bytes;
    for (Index i = 0; i < count; ++i) {
        const float x = random.number();
        std::uint32_t bits;
        __builtin_memcpy(&bits, &x, sizeof bits);
        // Half floats from 2^-14 on, of either sign.
        if (format == Format::f16) bits = (random.word() % 0x4000 + 0x400) << 16 | (bits & 0x80000000U);
        for (int byte = format == Format::f32 ? 0 : 2; byte < 4; ++byte) {
            bytes.push_back(static_cast<std::uint8_t>(bits >> 8 * byte));
        }
    }
    return bytes;
}

void multiply_some(Matrix m, Arithmetic arithmetic, Index tokens, Random &random, Checksum &checksum) {
    std::vector<std::uint8_t> weight, scales, biases;
    if (is_quantised(m)) {
        for (Index i = 0; i < m.rows * row_bytes(m); ++i) weight.push_back(static_cast<std::uint8_t>(random.word()));
        scales = numbers(m.scale_format, m.rows * groups_of(m), random);
        biases = numbers(m.scale_format, m.rows * groups_of(m), random);
    } else {
        weight = numbers(m.format, m.rows * m.columns, random);
    }
    m.weight = weight.data();
    m.scales = scales.data();
    m.biases = biases.data();
    std::vector<float> x, out(static_cast<std::size_t>(tokens * m.rows)), row(static_cast<std::size_t>(m.columns));
    for (Index i = 0; i < tokens * m.columns; ++i) x.push_back(random.number());
    const LinearKernels &linear = kLinearKernels;
    const auto arranged = floats(linear.arranged_floats(m, arithmetic, tokens));
    const auto scratch = floats(linear.scratch_floats(m, arithmetic, tokens));
    linear.arrange(m, arithmetic, {x.data(), tokens, m.columns, m.columns}, arranged.get());
    linear.multiply(m, arithmetic, arranged.get(), tokens, 0, m.rows / 2, out.data(), m.rows, scratch.get());
    linear.multiply(m, arithmetic, arranged.get(), tokens, m.rows / 2, m.rows, out.data(), m.rows, scratch.get());
    linear.expand_row(m, m.rows - 1, row.data());
    for (const float sum : out) checksum.add(sum);
    for (const float number : row) checksum.add(number);
}

void multiply_all(Checksum &checksum) {
    Random random;
    for (const Format format : {Format::f32, Format::f16, Format::bf16, Format::q4, Format::q8}) {
        for (const Index group : {32, 64, 128}) {
            if (group > 32 && (format == Format::f32 || format == Format::f16 || format == Format::bf16)) continue;
            for (const Format scale_format : {Format::f32, Format::f16, Format::bf16}) {
                for (const Arithmetic arithmetic : {Arithmetic::exact, Arithmetic::fast, Arithmetic::int8}) {
                    for (const Index tokens : {1, 2, 3, 4, 6, 9, 33}) {
                        const Index columns = 3 * (group < column_step(format) ? column_step(format) : group);
                        multiply_some({format, scale_format, 35, columns, group, nullptr, nullptr, nullptr}, arithmetic,
                                      tokens, random, checksum);
                    }
                }
            }
        }
    }
}

}  // namespace
}  // namespace mlx_sidecar::cpu

int main() {
    mlx_sidecar::cpu::Checksum checksum;
    mlx_sidecar::cpu::multiply_all(checksum);
    std::printf("%016llx\n", static_cast<unsigned long long>(checksum.value()));
}
