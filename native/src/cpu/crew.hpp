// Threads that share the work of a step. Which thread does which share is fixed by their numbers alone.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "matrix.hpp"

namespace mlx_sidecar::cpu {

// Where threads wait for each other: they spin for about 30 us, because waking a sleeping thread costs three times that,
// and then sleep, because an idle crew must leave the processor to others.
class Gate {
public:
    // Returns as soon as `open()`. The thread that opens it calls `wake` afterwards.
    template <typename Open>
    void wait(const Open &open) {
        for (int i = 0; i < kPauses; ++i) {
            if (open()) return;
            pause();
        }
        std::unique_lock<std::mutex> lock(mutex_);
        sleepers_.fetch_add(1);
        opened_.wait(lock, open);
        sleepers_.fetch_sub(1);
    }

    // All atomic operations are sequentially consistent: either this sees the sleeper, or the sleeper, which counts
    // itself first, sees that the gate is open. The lock keeps it from falling asleep between its look and our notice.
    void wake() {
        if (sleepers_.load() == 0) return;
        { const std::lock_guard<std::mutex> lock(mutex_); }
        opened_.notify_all();
    }

private:
    static constexpr int kPauses = 2000;

    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }

    std::mutex mutex_;
    std::condition_variable opened_;
    std::atomic<int> sleepers_{0};
};

// One caller and `threads - 1` more threads, which start with the first work that is worth sharing (so that a process may
// fork until then) and end with the crew. One thread at a time may call `run`.
class Crew {
public:
    // Floating point operations below which handing out work takes longer than doing it.
    static constexpr double kWorthSharing = 200e3;

    // Throws std::invalid_argument if `threads` is below 1.
    explicit Crew(int threads);
    ~Crew();
    Crew(const Crew &) = delete;
    Crew &operator=(const Crew &) = delete;

    int threads() const { return threads_; }

    // Calls f(first, last, thread) so that the ranges cover shares 0 to `shares` once, and returns when all are done. The
    // caller is thread 0; with little work (`operations` is an estimate), and where the system has no more threads, it does
    // everything. `f` must not throw.
    template <typename F>
    void run(Index shares, double operations, const F &f) {
        if (threads_ == 1 || shares < 2 || operations < kWorthSharing) {
            if (shares > 0) f(Index{0}, shares, 0);
            return;
        }
        share(shares, &f, [](const void *call, Index first, Index last, int thread) {
            (*static_cast<const F *>(call))(first, last, thread);
        });
    }

private:
    using Call = void (*)(const void *call, Index first, Index last, int thread);

    // Written by the caller before it counts `round_` up, read by the others after they have seen that.
    struct Work {
        Index shares = 0;
        const void *f = nullptr;
        Call call = nullptr;  // null: go home
    };

    void share(Index shares, const void *f, Call call);
    bool start();
    void dismiss();
    void serve(int thread, std::uint32_t round);
    void do_part(int thread) const;

    const int threads_;
    bool alone_ = false;
    Work work_;
    std::vector<std::thread> others_;
    // Apart from each other and from what is only read: each is spun on by another thread.
    alignas(64) std::atomic<std::uint32_t> round_{0};
    alignas(64) std::atomic<int> busy_{0};
    alignas(64) Gate begun_;
    alignas(64) Gate ended_;
};

}  // namespace mlx_sidecar::cpu
