// Reads sparse rows with labels from text that arrives in chunks: the Extreme Classification format
// (`rows features labels`, then `l1,l2,... f:v f:v ...`) and svmlight (`l1,l2 f:v f:v # comment`).
//
// Nothing the text says is trusted: no size from the header is reserved, every id is checked before
// it is stored. The first error stops the reader; it carries the line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hashfold {

enum class TextFormat { xmc, svmlight };

// The largest id of a kind, and the line that has it.
struct LargestId {
    int64_t id = -1;
    int64_t line = 0;
};

struct TextRows {
    std::vector<int64_t> indptr{0};
    std::vector<int32_t> indices;  // ascending and distinct within a row
    std::vector<float> values;     // finite
    std::vector<int64_t> label_indptr{0};
    std::vector<int32_t> labels;  // ascending and distinct within a row; svmlight: may be negative (-1 / +1)
};

class TextReader {
  public:
    explicit TextReader(TextFormat format) : format_(format) {}

    // Takes the next bytes; lines may be cut anywhere. False after an error.
    bool feed(std::string_view chunk);
    // The text has ended. False after an error.
    bool finish();

    const std::string& error() const { return error_; }  // "expectation; what came; remedy."
    int64_t error_line() const { return line_; }         // from 1
    int64_t rows() const { return static_cast<int64_t>(rows_.indptr.size()) - 1; }
    int64_t header_features() const { return features_; }  // xmc only
    int64_t header_labels() const { return labels_; }
    LargestId largest_feature() const { return largest_feature_; }
    LargestId largest_label() const { return largest_label_; }
    int64_t smallest_feature() const { return smallest_feature_; }
    TextRows take() { return std::move(rows_); }

  private:
    bool line(std::string_view text);
    bool header(std::string_view text);
    bool xmc_row(std::string_view text);
    bool svmlight_row(std::string_view text);
    bool parse_labels(std::string_view list);
    bool parse_entries(std::string_view text);
    bool parse_entry(const char*& at, const char* end);
    bool close_row();
    bool sort_entries(size_t begin);
    bool sort_labels(size_t begin);
    bool fail(std::string message);

    const TextFormat format_;
    std::string pending_;  // the start of a line whose end has not come yet
    std::string error_;
    int64_t line_ = 0;
    int64_t header_rows_ = -1, features_ = -1, labels_ = -1;
    int64_t smallest_feature_ = INT64_MAX;
    LargestId largest_feature_, largest_label_;
    bool failed_ = false, first_chunk_ = true;
    TextRows rows_;
    std::vector<std::pair<int32_t, float>> scratch_;
};

}  // namespace hashfold
