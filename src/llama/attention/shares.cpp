// Each compute thread of a graph runs `compute`, and finds its own share without asking the others.

#include "shares.h"

#include <algorithm>
#include <vector>

#include "../kernels/ggml_inside.h"

namespace cllm::attention {

namespace {

// Each compute thread makes the lists for itself: that is cheaper than waiting for each other.
thread_local Blocks blocks;

bool has_few_rows(const Problem & p, const Block & block) { return block.count * p.group <= FEW_ROWS; }

// What a block's query heads cost together, in rows over a tile. Loading a tile's keys and values costs about as much as 4 rows; and
// a block without tiles still has results to write.
int64_t cost(const Problem & p, const Block & block) {
    constexpr int64_t LOADING = 4;
    return (block.tiles() + 1) * (block.count * p.group + LOADING);
}

// Query heads `from..to` as whole key heads where they are whole, and as parts of key heads where they aren't.
template <class Use> void each_heads(const Problem & p, int64_t from, int64_t to, const Use & use) {
    while (from < to) {
        const int64_t kv_head = from / p.group, first = from % p.group;
        const int64_t whole = first == 0 ? (to - from) / p.group : 0;
        const int64_t count = whole > 0 ? p.group : std::min(p.group - first, to - from);
        const int64_t of    = std::max<int64_t>(whole, 1);
        use(Heads{kv_head, kv_head + of, {first, count}});
        from += of * count;
    }
}

void attend(const Problem & p, const Block & block, int64_t head_from, int64_t head_to, float * scratch) {
    each_heads(p, head_from, head_to, [&](Heads heads) {
        if (block.count * heads.of.count <= FEW_ROWS) {
            few_rows(p, block, heads, scratch);
            return;
        }
        for (int64_t kv_head = heads.from; kv_head < heads.to; kv_head++) {
            many_rows(p, block, kv_head, heads.of, scratch);
        }
    });
}

// Where in a block a thread's share begins: a query head of a section, or of all sections.
struct Place {
    int64_t section, head;
};

// How blocks are shared out. A cell's heads lie side by side in memory, and a CPU fetches ahead what lies side by side: a thread that
// takes some heads of each cell reads at half the speed. So a thread takes whole blocks, whole sections of a text that is long, and some
// heads only where its share begins and ends. (Qwen3-0.6B's heads, one token behind 6,656 cells, two threads: 2.1 ms by heads, 1.2 so.)
class Shares {
  public:
    // Of some blocks, in this order.
    Shares(const Problem & p, std::vector<const Block *> && blocks, int64_t nth) : p(p), blocks(std::move(blocks)), nth(nth) {
        for (const Block * block : this->blocks) {
            total += cost(p, *block);
        }
    }

    // Numbers of `Partials` that all blocks need whose sections several threads compute.
    int64_t partials() const {
        int64_t rows = 0;
        each([&](const Block & block, int64_t before) { rows += in_sections(block, before) ? rows_of(block) : 0; });
        return rows * (p.dv + (int64_t) (sizeof(Running) / sizeof(float)));
    }

    void compute(int64_t ith, float * partials, float * scratch) const {
        each([&](const Block & block, int64_t before) {
            const int64_t heads = p.kv_heads * p.group;
            if (!in_sections(block, before)) {
                attend(p, block, head_at(block, before, ith), head_at(block, before, ith + 1), scratch);
                return;
            }
            const Partials to  = take(partials, block);
            Place          at  = place_at(block, before, ith);
            const Place    end = place_at(block, before, ith + 1);
            const auto     sum = [&](int64_t sections_to, int64_t heads_to) {
                each_heads(p, at.head, heads_to, [&](Heads of) { few_rows(p, block, at.section, sections_to, of, to, scratch); });
            };
            if (at.section < end.section && at.head > 0) {
                sum(at.section + 1, heads);
                at = {at.section + 1, 0};
            }
            if (at.section < end.section) {
                sum(end.section, heads);
                at = {end.section, 0};
            }
            if (at.head < end.head) {
                sum(end.section + 1, end.head);
            }
        });
    }

    // Once all threads have computed.
    void finish(int64_t ith, float * partials, float * scratch) const {
        each([&](const Block & block, int64_t before) {
            if (in_sections(block, before)) {
                finish_partials(p, block, take(partials, block), ith, nth, scratch);
            }
        });
    }

  private:
    // Calls `use` with each block and the cost of those before it.
    template <class Use> void each(const Use & use) const {
        int64_t before = 0;
        for (const Block * block : blocks) {
            use(*block, before);
            before += cost(p, *block);
        }
    }

    // How much of a block's `parts` lies before the share of thread `number`. Neighbours compute the same.
    int64_t part_at(const Block & block, int64_t before, int64_t number, int64_t parts) const {
        const int64_t own = cost(p, block);
        return (std::clamp<int64_t>(total * number / nth - before, 0, own) * parts + own / 2) / own;
    }

    int64_t head_at(const Block & block, int64_t before, int64_t number) const {
        return part_at(block, before, number, p.kv_heads * p.group);
    }

    Place place_at(const Block & block, int64_t before, int64_t number) const {
        const int64_t heads = p.kv_heads * p.group;
        const int64_t at    = part_at(block, before, number, block.tiles() * heads);
        int64_t       section = 0;
        while (section < block.sections() && block.section_begins[section + 1] * heads <= at) {
            section++;
        }
        if (section == block.sections()) {
            return {section, 0};
        }
        const int64_t from = block.section_begins[section], tiles = block.section_begins[section + 1] - from;
        return {section, (at - from * heads) / tiles};
    }

    // Whether several threads compute sections of a block.
    bool in_sections(const Block & block, int64_t before) const {
        if (block.sections() < 2 || !has_few_rows(p, block)) {
            return false;
        }
        const int64_t after = before + cost(p, block);
        for (int64_t number = 1; number < nth; number++) {
            const int64_t begin = total * number / nth;
            if (before < begin && begin < after) {
                return true;
            }
        }
        return false;
    }

    int64_t rows_of(const Block & block) const { return block.sections() * p.kv_heads * p.group * block.count; }

    // A block's room, and moves `partials` behind it.
    Partials take(float *& partials, const Block & block) const {
        const int64_t rows = rows_of(block);
        Partials      of{partials, (Running *) (partials + rows * p.dv)};
        partials = (float *) (of.running + rows);
        return of;
    }

    const Problem &            p;
    std::vector<const Block *> blocks;
    int64_t                    nth, total = 0;
};

// The beginning of ggml's work memory.
struct Work {
    float * partials;

    static Work * of(const ggml_compute_params & params) { return (Work *) (((uintptr_t) params.wdata + LINE - 1) / LINE * LINE); }
    float *       scratch(const Problem & p, int ith) { return (float *) ((char *) this + LINE) + ith * p.scratch(); }
};

}  // namespace

size_t work_size(const Problem & p, int threads) { return p.scratch() * sizeof(float) * threads + 2 * LINE; }

void compute(const ggml_compute_params & params, const Problem & p) {
    Work *        work    = Work::of(params);
    float *       scratch = work->scratch(p, params.ith);
    const int64_t ith = params.ith, nth = params.nth;

    std::vector<const Block *> shared;
    for (const Block & block : blocks.of(p)) {
        if (p.kv_heads % nth == 0 && !has_few_rows(p, block)) {
            // Computing takes longer than loading, and heads cost the same.
            const int64_t heads = p.kv_heads * p.group;
            attend(p, block, heads * ith / nth, heads * (ith + 1) / nth, scratch);
        } else {
            shared.push_back(&block);
        }
    }
    const Shares  shares(p, std::move(shared), nth);
    const int64_t needed = shares.partials();
    if (needed > 0) {
        // Of the first thread, for all.
        static thread_local std::vector<float> partials;
        if (ith == 0) {
            partials.resize(std::max(partials.size(), (size_t) needed));
            work->partials = partials.data();
        }
        ggml_barrier(params.threadpool);
    }
    shares.compute(ith, needed > 0 ? work->partials : nullptr, scratch);
    if (needed > 0) {
        ggml_barrier(params.threadpool);
        shares.finish(ith, work->partials, scratch);
    }
}

bool lacked_positions() { return blocks.lacked_positions(); }

}  // namespace cllm::attention
