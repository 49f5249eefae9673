// A crew under a race detector: rounds close to each other, rounds after a sleep, crews that end while they spin or sleep,
// and crews that never began. The shares write plain memory that the caller reads afterwards.
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

#include "cpu/crew.hpp"

using mlx_sidecar::cpu::Crew;
using mlx_sidecar::cpu::Index;

namespace {

bool round_is_whole(Crew &crew, std::vector<long> &counts, Index shares) {
    for (long &count : counts) count = 0;
    crew.run(shares, 1e9, [&](Index first, Index last, int) {
        for (Index i = first; i < last; ++i) counts[static_cast<std::size_t>(i)] += 1;
    });
    for (std::size_t i = 0; i < counts.size(); ++i) {
        if (counts[i] != (static_cast<Index>(i) < shares ? 1 : 0)) return false;
    }
    return true;
}

}  // namespace

int main() {
    std::vector<long> counts(64);
    for (int threads = 1; threads <= 5; ++threads) {
        for (int crews = 0; crews < 20; ++crews) {
            Crew crew(threads);
            for (int round = 0; round < crews * 10; ++round) {
                if (!round_is_whole(crew, counts, round % 64)) return std::puts("a share was not done once"), 1;
                // Longer than a thread spins, so that some rounds find them asleep.
                if (round % 50 == 49) std::this_thread::sleep_for(std::chrono::milliseconds(1));
            }
        }
    }
    return 0;
}
