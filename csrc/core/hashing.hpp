// Locality-sensitive hashes of float vectors, dense or compressed sparse rows.
//
// A family gives each row num_tables * hashes_per_table elementary codes; the codes of one table are
// combined to its bucket. Every sum runs over the features in ascending order, one hash a vector lane,
// and zeros change nothing: so codes do not depend on threads, instruction set, or dense against sparse.
#pragma once

#include <cstdint>

#include "views.hpp"

namespace hashfold {

// Rows to hash: `dense` where it has data, else `sparse` (features ascending and distinct in a row).
struct HashRows {
    Matrix<const float> dense;
    Csr<float> sparse;
};

// Where the hashes go, (rows, tables * per_table) and (rows, tables), null if not wanted; and how the
// codes c_0, c_1 ... of a table become a bucket: c_0 + c_1 << code_bits + ..., or, where code_bits is
// 0, mixed down to bucket_bits.
struct HashOutput {
    int32_t* codes;
    int32_t* buckets;
    int64_t tables;
    int64_t per_table;
    int code_bits;
    int bucket_bits;
    uint64_t seed;  // of the family; also salts the mixing
    int64_t hashes() const { return tables * per_table; }
};

// out (dim, hashes): independent standard normals, entry (f, h) a function of (seed, f, h) alone.
void gaussian_projection(uint64_t seed, Matrix<float> out);

// Code h is 1 where the projection on column h of `projection` (dim, hashes) is positive.
void simhash(const HashRows& x, Matrix<const float> projection, const HashOutput& out);

// Lists of +1 and -1: list i holds entries starts[i] to starts[i + 1], each 2 * index + (1 if -1),
// ascending.
struct SignLists {
    const int64_t* starts;
    const uint32_t* entries;
    int64_t lists;
};

// As simhash with a projection of -1, 0 and +1, given by its rows and by its columns.
void sparse_simhash(const HashRows& x, const SignLists& by_feature, const SignLists& by_hash,
                    const HashOutput& out);

// Winner take all: bin h holds bin_size coordinates; its code is the place (in `places`) of the largest
// nonzero, of equal ones that of the lowest feature. The first `hashes` bins are the hashes, the others
// lend their codes to empty ones. slots (dim, permutations): bin * bin_size + place of a feature in each
// permutation.
struct WtaBins {
    Matrix<const int32_t> features;  // (hashes, bin_size), ascending in a bin
    Matrix<const int32_t> places;    // (hashes, bin_size)
    Matrix<const int32_t> slots;
    int64_t count;
};

void dwta(const HashRows& x, const WtaBins& bins, const HashOutput& out);

// Improved consistent weighted sampling; values are not negative.
void minhash(const HashRows& x, const HashOutput& out);

// One permutation: each nonzero falls in one of `hashes` bins, a bin's code names its largest in a random
// order; empty bins borrow.
void doph(const HashRows& x, const HashOutput& out);

// Position of the first value that is NaN, infinite, or (where refused) negative; -1 if there is none.
int64_t first_invalid(const float* values, int64_t count, bool refuse_negative);

}  // namespace hashfold
