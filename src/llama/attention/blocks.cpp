#include "blocks.h"

#include <algorithm>
#include <cstring>

namespace cllm::attention {

namespace {

// A bit for each cell that isn't at minus infinity.
void read(const half * mask, int64_t cells, uint64_t * row) {
    const __m128i hidden = _mm_set1_epi16((short) 0xFC00);
    const size_t  words  = (size_t) (cells + 63) / 64;
    for (size_t w = 0; w < words; w++) {
        const int64_t from = (int64_t) w * 64;
        uint64_t      word = 0;
        if (from + 64 <= cells) {
            for (int at = 0; at < 64; at += 16) {
                const __m128i low  = _mm_loadu_si128((const __m128i *) (mask + from + at));
                const __m128i high = _mm_loadu_si128((const __m128i *) (mask + from + at + 8));
                const __m128i both = _mm_packs_epi16(_mm_cmpeq_epi16(low, hidden), _mm_cmpeq_epi16(high, hidden));
                word |= (uint64_t) (uint16_t) ~_mm_movemask_epi8(both) << at;
            }
        } else {
            for (int64_t cell = from; cell < cells; cell++) {
                word |= (uint64_t) (mask[cell] != 0xFC00) << (cell - from);
            }
        }
        row[w] = word;
    }
}

// Whether a token that sees `alone` cells costs less in one block with `count` others, which see `by_any` cells, than in the next block.
// Each cell of a block is loaded once, and computed with all tokens of the block, also with those that don't see it. Loading a cell
// costs about as much as computing one token with it. So a text of 7,000 cells has a block of its own beside texts of 100.
bool is_cheaper(int64_t count, int64_t by_any, int64_t alone, int64_t together) {
    return together * (count + 2) <= by_any * (count + 1) + alone * 2;
}

// Of the blocks that this thread formed last.
thread_local uint64_t cells_formed = 0, pairs_formed = 0;

template <class Use> void each_bit(uint64_t word, int64_t from, const Use & use) {
    for (; word != 0; word &= word - 1) {
        use(from + __builtin_ctzll(word));
    }
}

}  // namespace

void Tiles::begin(const int32_t * of_cells, size_t count) {
    for (const Tile & tile : tiles) {
        firsts[(size_t) tile.at] = -1;
    }
    tiles.clear();
    positions = of_cells;
    known     = count;
    token     = 0;
}

int32_t & Tiles::first_of(int32_t at) {
    if ((size_t) at >= firsts.size()) {
        firsts.resize((size_t) at + 1, -1);
    }
    return firsts[(size_t) at];
}

Tiles::Tile & Tiles::append(int32_t at) {
    int32_t & first = first_of(at);
    tiles.emplace_back();
    Tile & tile = tiles.back();
    tile.at     = at;
    tile.next   = first;
    tile.filled = 0;
    std::fill_n(tile.seen, ROWS_MAX, 0u);
    first = (int32_t) tiles.size() - 1;
    return tile;
}

bool Tiles::add(const uint64_t * sees, size_t words) {
    size_t cells = 0, changes = 0;
    if (token > 0) {
        for (size_t w = 0; w < words; w++) {
            cells += (size_t) __builtin_popcountll(sees[w]);
            changes += (size_t) __builtin_popcountll(sees[w] ^ before[w]);
        }
    }
    const bool is_done = token > 0 && positions != nullptr && changes * 4 < cells ? add_changes(sees) : (before.resize(words), add_all(sees));
    std::copy_n(sees, words, before.begin());
    token++;
    return is_done;
}

bool Tiles::add_all(const uint64_t * sees) {
    touched.clear();
    int32_t rank  = 0;
    bool    apart = true;
    for (size_t w = 0; w < before.size(); w++) {
        each_bit(sees[w], (int64_t) w * 64, [&](int64_t cell) {
            const int32_t position = place(cell, rank++);
            if (position < 0) {
                apart = false;
                return;
            }
            const auto     at  = (size_t) (position / TILE);
            const uint32_t bit = 1u << (position % TILE);
            if (at >= own_seen.size()) {
                own_seen.resize(at + 1, 0);
                own_cells.resize((at + 1) * TILE);
            }
            if (own_seen[at] == 0) {
                touched.push_back((int32_t) at);
            }
            apart = apart && (own_seen[at] & bit) == 0;
            own_seen[at] |= bit;
            own_cells[at * TILE + (size_t) (position % TILE)] = (int32_t) cell;
        });
    }
    for (const int32_t at : touched) {
        const uint32_t  seen  = own_seen[(size_t) at];
        const int32_t * cells = &own_cells[(size_t) at * TILE];
        own_seen[(size_t) at] = 0;
        const auto fits = [&](const Tile & tile) {
            bool same = true;
            each_bit(seen & tile.filled, 0, [&](int64_t i) { same = same && tile.cells[i] == cells[i]; });
            return same;
        };
        int32_t found = first_of(at);
        while (found >= 0 && !fits(tiles[(size_t) found])) {
            found = tiles[(size_t) found].next;
        }
        Tile & tile = found >= 0 ? tiles[(size_t) found] : append(at);
        each_bit(seen & ~tile.filled, 0, [&](int64_t i) { tile.cells[i] = cells[i]; });
        tile.filled |= seen;
        tile.seen[token] = seen;
    }
    return apart;
}

// Like `add_all`, where a token sees nearly what the one before it does: as that one, but for the changes.
bool Tiles::add_changes(const uint64_t * sees) {
    for (Tile & tile : tiles) {
        tile.seen[token] = tile.seen[token - 1];
    }
    // The tile of a place that this token's cells lie in.
    const auto own = [&](int32_t at) {
        int32_t found = first_of(at);
        while (found >= 0 && tiles[(size_t) found].seen[token] == 0) {
            found = tiles[(size_t) found].next;
        }
        return found;
    };
    for (size_t w = 0; w < before.size(); w++) {
        each_bit(before[w] & ~sees[w], (int64_t) w * 64, [&](int64_t cell) {
            const int32_t position = place(cell, 0);
            const int32_t found    = own(position / TILE);
            tiles[(size_t) found].seen[token] &= ~(1u << (position % TILE));
        });
    }
    bool apart = true;
    for (size_t w = 0; w < before.size(); w++) {
        each_bit(sees[w] & ~before[w], (int64_t) w * 64, [&](int64_t cell) {
            const int32_t position = place(cell, 0);
            if (position < 0) {
                apart = false;
                return;
            }
            const int32_t  at     = position / TILE;
            const int      number = position % TILE;
            const uint32_t bit    = 1u << number;
            const auto     free   = [&](const Tile & tile) { return (tile.filled & bit) == 0 || tile.cells[number] == cell; };
            int32_t        found  = own(at);
            if (found < 0) {
                found = first_of(at);
                while (found >= 0 && !free(tiles[(size_t) found])) {
                    found = tiles[(size_t) found].next;
                }
            } else if ((tiles[(size_t) found].seen[token] & bit) != 0) {
                apart = false;
                return;
            } else if (!free(tiles[(size_t) found])) {
                // Another token has another cell there: from here on this one has a tile of its own.
                Tile & copy      = append(at);
                Tile & shared    = tiles[(size_t) found];
                copy.filled      = shared.seen[token];
                copy.seen[token] = shared.seen[token];
                std::copy_n(shared.cells, TILE, copy.cells);
                shared.seen[token] = 0;
                found              = (int32_t) tiles.size() - 1;
            }
            Tile & tile        = found >= 0 ? tiles[(size_t) found] : append(at);
            tile.cells[number] = (int32_t) cell;
            tile.filled |= bit;
            tile.seen[token] |= bit;
        });
    }
    return apart;
}

void Tiles::finish(Block & to) {
    to.count = token;
    to.cells.resize(tiles.size() * TILE);
    to.seen.resize(tiles.size() * (size_t) token);
    int32_t last = -1;
    for (const Tile & tile : tiles) {
        last = std::max(last, tile.at);
    }
    to.section_begins.clear();
    size_t  at      = 0;
    int32_t section = -1;
    for (int32_t place = 0; place <= last; place++) {
        if (first_of(place) >= 0 && place / SECTION != section) {
            section = place / SECTION;
            to.section_begins.push_back((int32_t) at);
        }
        for (int32_t i = first_of(place); i >= 0; i = tiles[(size_t) i].next) {
            const Tile & tile = tiles[(size_t) i];
            const int    some = __builtin_ctz(tile.filled);
            for (int number = 0; number < TILE; number++) {
                to.cells[at * TILE + (size_t) number] = tile.cells[(tile.filled >> number & 1) != 0 ? number : some];
            }
            std::copy_n(tile.seen, token, &to.seen[at * (size_t) token]);
            at++;
        }
    }
    to.section_begins.push_back((int32_t) at);
}

const std::vector<Block> & Blocks::of(const Problem & p) {
    // Keys that a step wrote lie in a cache, which nothing computes; where in it this operation's first stream begins.
    const ggml_tensor * cache = p.k->view_src != nullptr ? p.k->view_src : p.k;
    const Mask          mask  = cache->op == GGML_OP_NONE ? mask_at(p.mask->data) : Mask{};
    const auto          base  = (int64_t) ((size_t) ((const char *) p.k->data - (const char *) cache->data) / p.k->nb[1]);

    const auto is_kept = [&](const Kept & one) {
        return mask.number != 0 && one.data == p.mask->data && one.number == mask.number && one.group == p.group &&
               one.tokens == p.tokens && one.streams == p.streams && one.base == base;
    };
    calls++;
    for (current = 0; current < KEPT_MAX; current++) {
        if (is_kept(kept[current])) {
            kept[current].used = calls;
            return kept[current].blocks;
        }
    }
    current = (int) (std::min_element(kept, kept + KEPT_MAX, [](const Kept & a, const Kept & b) { return a.used < b.used; }) - kept);
    Kept & one      = kept[current];
    one.data        = p.mask->data;
    one.number      = mask.number;
    one.used        = calls;
    one.group       = p.group;
    one.tokens      = p.tokens;
    one.streams     = p.streams;
    one.base        = base;
    one.by_position = false;
    if (mask.cache != nullptr) {
        const bool several = cache->ne[2] > 1;
        mask.cache->stream_cells.store(several ? cache->ne[1] : 0, std::memory_order_relaxed);
        one.by_position = form(p, &mask.cache->positions, base, (int64_t) (p.k->nb[3] / p.k->nb[1]), one.blocks);
    }
    if (!one.by_position) {
        form(p, nullptr, 0, 0, one.blocks);
    }
    cells_formed = pairs_formed = 0;
    for (const Block & block : one.blocks) {
        cells_formed += block.cells.size();
        pairs_formed += block.cells.size() * (size_t) block.count;
    }
    return one.blocks;
}

// False where a cell's position isn't known, or two that a token sees have the same one.
bool Blocks::form(const Problem & p, const std::vector<int32_t> * positions, int64_t base, int64_t stream_cells, std::vector<Block> & to) {
    size_t formed = 0;
    for (int64_t stream = 0; stream < p.streams; stream++) {
        const auto      first = (size_t) (base + stream * stream_cells);
        const bool      any   = positions != nullptr && first < positions->size();
        const int32_t * from  = any ? positions->data() + first : nullptr;
        if (positions != nullptr && !any) {
            return false;
        }
        if (!form_stream(p, stream, from, any ? positions->size() - first : 0, to, formed)) {
            return false;
        }
    }
    to.resize(formed);
    return true;
}

bool Blocks::form_stream(const Problem & p, int64_t stream, const int32_t * positions, size_t known, std::vector<Block> & to, size_t & formed) {
    const auto    words = (size_t) (p.cells + 63) / 64;
    const int64_t most  = std::max<int64_t>(1, ROWS_MAX / p.group);
    row.resize(words);
    any.resize(words);
    int64_t seen_by_any = 0, first = 0;
    const auto end_block = [&](int64_t next) {
        if (formed == to.size()) {
            to.emplace_back();
        }
        Block & block = to[formed++];
        block.stream  = stream;
        block.first   = first;
        tiles.finish(block);
        first = next;
    };
    for (int64_t token = 0; token < p.tokens; token++) {
        read(p.seen_by(stream, token), p.cells, row.data());
        int64_t alone = 0, together = 0;
        for (size_t w = 0; w < words; w++) {
            alone += __builtin_popcountll(row[w]);
            together += __builtin_popcountll(token == first ? row[w] : row[w] | any[w]);
        }
        if (token > first && (token - first == most || !is_cheaper(token - first, seen_by_any, alone, together))) {
            // It sees others, or the block is full: the first of the next block.
            end_block(token);
            together = alone;
        }
        if (token == first) {
            tiles.begin(positions, known);
            std::copy_n(row.data(), words, any.data());
        } else {
            for (size_t w = 0; w < words; w++) {
                any[w] |= row[w];
            }
        }
        seen_by_any = together;
        if (!tiles.add(row.data(), words)) {
            return false;
        }
    }
    if (p.tokens > first) {
        end_block(p.tokens);
    }
    return true;
}

}  // namespace cllm::attention

// For tests: how many cells all blocks load that this thread formed last, and how many pairs of a cell and a token they compute.
extern "C" void cllm_attention_formed(uint64_t * cells, uint64_t * pairs) {
    *cells = cllm::attention::cells_formed;
    *pairs = cllm::attention::pairs_formed;
}
