#include "crew.hpp"

#include <stdexcept>
#include <system_error>

namespace mlx_sidecar::cpu {

Crew::Crew(int threads) : threads_(threads) {
    if (threads < 1) throw std::invalid_argument("a crew has at least one thread");
}

Crew::~Crew() { dismiss(); }

void Crew::share(Index shares, const void *f, Call call) {
    if (others_.empty() && !start()) return call(f, 0, shares, 0);
    work_ = {shares, f, call};
    busy_.store(threads_ - 1);
    round_.fetch_add(1);
    begun_.wake();
    do_part(0);
    ended_.wait([this] { return busy_.load() == 0; });
}

// False if the system has no more threads; it is not asked again.
bool Crew::start() {
    if (alone_) return false;
    try {
        for (int thread = 1; thread < threads_; ++thread) others_.emplace_back(&Crew::serve, this, thread, round_.load());
    } catch (const std::system_error &) {
        dismiss();
        alone_ = true;
    }
    return !alone_;
}

void Crew::dismiss() {
    work_ = {};
    round_.fetch_add(1);
    begun_.wake();
    for (std::thread &other : others_) other.join();
    others_.clear();
}

void Crew::serve(int thread, std::uint32_t round) {
    for (;;) {
        begun_.wait([this, round] { return round_.load() != round; });
        // Rounds cannot be missed: the next one begins when all have done this one.
        ++round;
        if (work_.call == nullptr) return;
        do_part(thread);
        if (busy_.fetch_sub(1) == 1) ended_.wake();
    }
}

void Crew::do_part(int thread) const {
    const Index first = work_.shares * thread / threads_, last = work_.shares * (thread + 1) / threads_;
    if (first < last) work_.call(work_.f, first, last, thread);
}

}  // namespace mlx_sidecar::cpu
