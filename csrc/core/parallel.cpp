#include "parallel.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace hashfold {
namespace {

int threads_of_machine() {
    for (const char* name : {"HASHFOLD_NUM_THREADS", "OMP_NUM_THREADS"}) {
        const char* text = std::getenv(name);
        const int count = text ? std::atoi(text) : 0;
        if (count > 0) return count;
    }
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
    return std::max(1u, std::thread::hardware_concurrency());
}

class Pool {
  public:
    explicit Pool(int count) : count_(count) {
        for (int i = 1; i < count_; ++i) threads_.emplace_back([this] { serve(); });
    }

    ~Pool() {
        stop_ = true;
        generation_.fetch_add(1);
        generation_.notify_all();
        for (auto& thread : threads_) thread.join();
    }

    int count() const { return count_; }

    // Runs task(worker) once for each worker in [0, workers); returns when all are done.
    void run(int workers, const std::function<void(int)>& task) {
        task_ = &task;
        workers_ = workers;
        pending_.store(count_ - 1);
        tickets_.store(1);
        generation_.fetch_add(1);
        generation_.notify_all();
        task(0);
        for (int left = pending_.load(); left != 0; left = pending_.load()) pending_.wait(left);
    }

  private:
    void serve() {
        uint64_t seen = 0;
        for (;;) {
            generation_.wait(seen);
            seen = generation_.load();
            if (stop_) return;
            const int worker = tickets_.fetch_add(1);
            if (worker < workers_) (*task_)(worker);
            if (pending_.fetch_sub(1) == 1) pending_.notify_one();
        }
    }

    const int count_;
    std::vector<std::thread> threads_;
    std::atomic<uint64_t> generation_{0};
    std::atomic<int> pending_{0};
    std::atomic<int> tickets_{0};
    std::atomic<bool> stop_{false};
    const std::function<void(int)>* task_ = nullptr;
    int workers_ = 0;
};

std::mutex team_mutex;  // held by the one caller whose team is at work
Pool* pool = nullptr;   // never destroyed at exit: a forked child has no threads to join
pid_t pool_process = 0;
std::atomic<int> wanted_threads{0};
thread_local bool inside_team = false;

Pool& current_pool() {
    const int wanted = num_threads();
    if (pool_process != getpid()) pool = nullptr;  // forked: the threads stayed behind
    if (!pool || pool->count() != wanted) {
        delete pool;
        pool = new Pool(wanted);
        pool_process = getpid();
    }
    return *pool;
}

// Runs `task` on up to `workers` workers, or returns false if no team can be had now.
bool run_team(int workers, const std::function<void(int)>& task) {
    if (workers <= 1 || inside_team) return false;
    std::unique_lock<std::mutex> lock(team_mutex, std::try_to_lock);
    if (!lock) return false;
    std::exception_ptr failure;
    std::mutex failure_mutex;
    const std::function<void(int)> guarded = [&](int worker) {
        inside_team = true;
        try {
            task(worker);
        } catch (...) {
            const std::lock_guard<std::mutex> hold(failure_mutex);
            if (!failure) failure = std::current_exception();
        }
        inside_team = false;
    };
    current_pool().run(workers, guarded);
    if (failure) std::rethrow_exception(failure);
    return true;
}

}  // namespace

int num_threads() {
    int count = wanted_threads.load();
    if (count == 0) {
        count = threads_of_machine();
        wanted_threads.store(count);
    }
    return count;
}

void set_num_threads(int count) {
    wanted_threads.store(std::max(1, count));
}

void parallel_chunks(int64_t count, int64_t grain, const ChunkBody& body) {
    if (count <= 0) return;
    grain = std::max<int64_t>(1, grain);
    const int64_t chunks = (count + grain - 1) / grain;
    const int workers = static_cast<int>(std::min<int64_t>(chunks, num_threads()));
    std::atomic<int64_t> next{0};
    const auto work = [&](int worker) {
        for (int64_t c = next.fetch_add(1); c < chunks; c = next.fetch_add(1))
            body(c * grain, std::min(count, (c + 1) * grain), worker);
    };
    if (!run_team(workers, work)) work(0);
}

void parallel_spans(int64_t count, int64_t grain, const ChunkBody& body) {
    if (count <= 0) return;
    grain = std::max<int64_t>(1, grain);
    const int64_t chunks = (count + grain - 1) / grain;
    const int workers = static_cast<int>(std::min<int64_t>(chunks, num_threads()));
    const auto work = [&](int worker) {
        const int64_t begin = chunks * worker / workers * grain;
        const int64_t end = std::min(count, chunks * (worker + 1) / workers * grain);
        if (begin < end) body(begin, end, worker);
    };
    if (!run_team(workers, work))
        for (int worker = 0; worker < workers; ++worker) work(worker);
}

}  // namespace hashfold
