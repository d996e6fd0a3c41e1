// Which tokens are computed together, and over which cells.
//
// A token's cells lie in tiles by their positions: cell `p` of a text is number `p % TILE` of tile `p / TILE`, wherever it lies in
// the buffer. Sums go tile by tile within a section and then section by section, so their order is that of the text, whatever other
// tokens there are, however the prompt was cut, and where a sliding window begins. Texts with the same beginning share cells, and so
// tiles.
#pragma once

#include <cstdint>
#include <vector>

#include "positions.h"
#include "problem.h"

namespace cllm::attention {

// Tokens that see nearly the same cells, and which.
struct Block {
    int64_t stream = 0, first = 0;
    int     count = 0;
    // Tiles of TILE cells by position. A place that no token of the block sees repeats another cell of the tile.
    std::vector<int32_t> cells;
    // For each tile and each token a bit for each of the tile's cells.
    std::vector<uint32_t> seen;
    // The first tile of each section, then the number of all tiles. A section is the tiles of SECTION * TILE positions, from a multiple of
    // that on. Those without tiles are left out.
    std::vector<int32_t> section_begins;

    int64_t  sections() const { return (int64_t) section_begins.size() - 1; }
    int64_t  tiles() const { return (int64_t) (cells.size() / TILE); }
    uint32_t sees(int token, int64_t tile) const { return seen[(size_t) (tile * count + token)]; }
};

// Cells of all rows of a block under construction, laid into tiles.
class Tiles {
  public:
    // Begins anew. `positions` of the stream's cells, `known` of them; null: a cell's position is the number of cells before it in
    // the buffer that its token sees.
    void begin(const int32_t * positions, size_t known);
    // Adds what a token sees, one bit a cell. Its number is that of the tokens before it. False: two cells have one position.
    bool add(const uint64_t * sees, size_t words);
    // Writes `cells` and `seen`.
    void finish(Block & to);

  private:
    struct Tile {
        int32_t  at, next;
        uint32_t filled;
        int32_t  cells[TILE];
        uint32_t seen[ROWS_MAX];
    };

    // The place of a cell, or -1.
    int32_t place(int64_t cell, int32_t rank) const {
        return positions == nullptr ? rank : (size_t) cell < known ? positions[cell] : UNKNOWN;
    }
    bool      add_all(const uint64_t * sees);
    bool      add_changes(const uint64_t * sees);
    Tile &    append(int32_t at);
    int32_t & first_of(int32_t at);

    const int32_t *       positions = nullptr;
    size_t                known     = 0;
    int                   token     = 0;
    std::vector<Tile>     tiles;
    std::vector<int32_t>  firsts;  // by place; -1: none
    std::vector<int32_t>  own_cells;
    std::vector<uint32_t> own_seen;
    std::vector<int32_t>  touched;
    std::vector<uint64_t> before;  // what the last token sees
};

// Forms blocks. What it needs room for is kept for the next time, and what a step's first layer got is there for the others.
class Blocks {
  public:
    const std::vector<Block> & of(const Problem & p);

    // Whether a step filled the mask of the last call, and the positions of its cells weren't known.
    bool lacked_positions() const { return kept[current].number != 0 && !kept[current].by_position; }

  private:
    struct Kept {
        const void *       data   = nullptr;
        uint64_t           number = 0, used = 0;
        int64_t            group = 0, tokens = 0, streams = 0, base = 0;
        bool               by_position = false;
        std::vector<Block> blocks;
    };
    // A model with sliding windows has two masks.
    static constexpr int KEPT_MAX = 4;

    bool form(const Problem & p, const std::vector<int32_t> * positions, int64_t base, int64_t stream_cells, std::vector<Block> & to);
    bool form_stream(const Problem & p, int64_t stream, const int32_t * positions, size_t known, std::vector<Block> & to, size_t & formed);

    Kept                  kept[KEPT_MAX];
    int                   current = 0;
    uint64_t              calls   = 0;
    Tiles                 tiles;
    std::vector<uint64_t> row, any;
};

}  // namespace cllm::attention
