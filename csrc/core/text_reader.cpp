#include "text_reader.hpp"

#include <algorithm>
#include <cfloat>
#include <charconv>
#include <cmath>
#include <cstring>

namespace hashfold {
namespace {

constexpr int64_t max_ids = INT32_MAX;
constexpr size_t longest_header = 4096;
constexpr size_t longest_line = size_t{1} << 28;

bool blank(char c) {
    return c == ' ' || c == '\t';
}

bool digit(char c) {
    return c >= '0' && c <= '9';
}

std::string_view skip_blanks(std::string_view text) {
    size_t at = 0;
    while (at < text.size() && blank(text[at])) ++at;
    return text.substr(at);
}

std::string_view first_token(std::string_view text) {
    size_t at = 0;
    while (at < text.size() && !blank(text[at])) ++at;
    return text.substr(0, at);
}

// A piece of the file as it may stand in a one-line message: short and printable.
std::string quoted(std::string_view piece) {
    static const char* hex = "0123456789abcdef";
    std::string out = "'";
    for (char c : piece.substr(0, 40)) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 32 && byte < 127) {
            out += c;
        } else {
            out += "\\x";
            out += hex[byte >> 4];
            out += hex[byte & 15];
        }
    }
    return out + (piece.size() > 40 ? "...'" : "'");
}

// Decimal digits from `at` on; -1 if there are none or more than an id can have.
int64_t parse_digits(const char*& at, const char* end) {
    int64_t value = 0;
    const char* const begin = at;
    while (at != end && digit(*at) && at - begin < 18) value = value * 10 + (*at++ - '0');
    return at == begin || (at != end && digit(*at)) ? -1 : value;
}

// A finite decimal number; from_chars knows no locale. Values too small for a float become zero.
bool parse_float(std::string_view text, float& value) {
    const char *begin = text.data(), *const end = begin + text.size();
    if (begin != end && *begin == '+') ++begin;
    if (begin != end && *begin == '+') return false;
    auto [stop, status] = std::from_chars(begin, end, value);
    if (stop != end || status == std::errc::invalid_argument) return false;
    if (status == std::errc::result_out_of_range) {
        double wide = 0.0;
        if (std::from_chars(begin, end, wide).ec == std::errc::result_out_of_range) {
            const size_t exponent = text.find_first_of("eE");
            const bool tiny = exponent != std::string_view::npos ? text[exponent + 1] == '-' : text.find('.') < 3;
            if (!tiny) return false;
        }
        if (std::fabs(wide) > FLT_MAX) return false;
        value = static_cast<float>(wide);
    }
    return std::isfinite(value);
}

constexpr int64_t not_a_class = INT64_MIN;

// svmlight writes classes as numbers: 3, -1, +1, 3.0.
int64_t parse_class(std::string_view token) {
    const char* at = token.data();
    const int64_t id = parse_digits(at, at + token.size());
    if (id >= 0 && at == token.data() + token.size()) return id < max_ids ? id : not_a_class;
    float value = 0.0f;
    if (!parse_float(token, value) || value != std::floor(value) || std::fabs(value) > 16777216.0f)
        return not_a_class;
    return static_cast<int64_t>(value);
}

}  // namespace

bool TextReader::fail(std::string message) {
    error_ = std::move(message);
    failed_ = true;
    return false;
}

bool TextReader::feed(std::string_view chunk) {
    if (failed_) return false;
    if (first_chunk_ && !chunk.empty()) {
        first_chunk_ = false;
        if (chunk.substr(0, 3) == "\xEF\xBB\xBF") chunk.remove_prefix(3);  // byte order mark
    }
    while (!chunk.empty()) {
        const size_t newline = chunk.find('\n');
        if (newline == std::string_view::npos) break;
        const std::string_view head = chunk.substr(0, newline);
        chunk.remove_prefix(newline + 1);
        if (pending_.empty()) {
            if (!line(head)) return false;
        } else {
            pending_ += head;
            const std::string whole = std::exchange(pending_, {});
            if (!line(whole)) return false;
        }
    }
    pending_ += chunk;
    const bool in_header = format_ == TextFormat::xmc && header_rows_ < 0;
    if (pending_.size() <= (in_header ? longest_header : longest_line)) return true;
    ++line_;
    return in_header ? header(pending_)
                     : fail("expected lines of at most 256 MiB; got a longer one; is this a text file?");
}

bool TextReader::finish() {
    if (failed_) return false;
    const std::string last = std::exchange(pending_, {});
    if (!last.empty() && !line(last)) return false;
    if (format_ == TextFormat::svmlight) return true;
    if (header_rows_ < 0) {
        line_ = 1;
        return fail("expected a header 'rows features labels'; the file is empty; write the file again.");
    }
    if (rows() < header_rows_)
        return fail("expected " + std::to_string(header_rows_) +
                    " rows, as the header says; the file ends after " + std::to_string(rows()) +
                    "; it is cut off or its header is wrong.");
    return true;
}

bool TextReader::line(std::string_view text) {
    ++line_;
    if (!text.empty() && text.back() == '\r') text.remove_suffix(1);
    if (format_ == TextFormat::svmlight) return svmlight_row(text);
    return header_rows_ < 0 ? header(text) : xmc_row(text);
}

bool TextReader::header(std::string_view text) {
    int64_t counts[3] = {-1, -1, -1};
    std::string_view rest = skip_blanks(text);
    bool good = true;
    for (int64_t& count : counts) {
        const std::string_view token = first_token(rest);
        const char* at = token.data();
        count = parse_digits(at, at + token.size());
        good = good && count >= 0 && at == token.data() + token.size();
        rest = skip_blanks(rest.substr(token.size()));
    }
    if (!good || !rest.empty())
        return fail("expected a header 'rows features labels' of three counts; got " + quoted(text) +
                    "; add the header, or name the file's format.");
    if (counts[1] > max_ids || counts[2] > max_ids)
        return fail("expected at most 2147483647 features and labels; got " + quoted(text) +
                    "; hash the ids to a smaller range.");
    header_rows_ = counts[0];
    features_ = counts[1];
    labels_ = counts[2];
    return true;
}

bool TextReader::xmc_row(std::string_view text) {
    if (rows() == header_rows_) {
        if (skip_blanks(text).empty()) return true;  // blank lines at the end
        return fail("expected the file to end after " + std::to_string(header_rows_) +
                    " rows, as the header says; got another row; correct the header.");
    }
    if (!text.empty() && !blank(text[0])) {
        const std::string_view list = first_token(text);
        if (list.find(':') == std::string_view::npos) {  // else a row without labels that lacks its space
            if (!parse_labels(list)) return false;
            text.remove_prefix(list.size());
        }
    }
    return parse_entries(text) && close_row();
}

bool TextReader::svmlight_row(std::string_view text) {
    text = text.substr(0, text.find('#'));
    if (skip_blanks(text).empty()) return true;
    if (!blank(text[0])) {
        const std::string_view list = first_token(text);
        if (list.find(':') == std::string_view::npos) {
            if (!parse_labels(list)) return false;
            text.remove_prefix(list.size());
        }
    }
    text = skip_blanks(text);
    if (text.substr(0, 4) == "qid:") {
        const std::string_view group = first_token(text).substr(4);
        const char* at = group.data();
        if (parse_digits(at, at + group.size()) < 0 || at != group.data() + group.size())
            return fail("expected qid:number; got " + quoted(first_token(text)) + "; correct the query id.");
        text.remove_prefix(group.size() + 4);
    }
    return parse_entries(text) && close_row();
}

bool TextReader::parse_labels(std::string_view list) {
    while (true) {
        const size_t comma = list.find(',');
        const std::string_view token = list.substr(0, comma);
        int64_t id = -1;
        if (format_ == TextFormat::xmc) {
            const char* at = token.data();
            id = parse_digits(at, at + token.size());
            if (id < 0 || at != token.data() + token.size())
                return fail("expected labels as ids counted from zero, like 3,17; got " + quoted(token) +
                            "; number the labels.");
            if (id >= labels_)
                return fail("label " + std::to_string(id) + " is outside [0, " + std::to_string(labels_) +
                            "); label ids count from zero.");
        } else {
            id = parse_class(token);
            if (id == not_a_class)
                return fail("expected labels as whole numbers, like 3 or -1; got " + quoted(token) +
                            "; number the classes (regression targets cannot be used).");
        }
        if (id > largest_label_.id) largest_label_ = {id, line_};
        rows_.labels.push_back(static_cast<int32_t>(id));
        if (comma == std::string_view::npos) return true;
        list.remove_prefix(comma + 1);
    }
}

bool TextReader::parse_entries(std::string_view text) {
    const char *at = text.data(), *const end = at + text.size();
    while (true) {
        while (at != end && blank(*at)) ++at;
        if (at == end) return true;
        if (!parse_entry(at, end)) return false;
    }
}

bool TextReader::parse_entry(const char*& at, const char* end) {
    const char* const begin = at;
    const auto token = [&] { return first_token({begin, static_cast<size_t>(end - begin)}); };
    const int64_t id = parse_digits(at, end);
    if (id < 0 || at == end || *at != ':')
        return fail("expected feature:value with a feature id counted from zero; got " + quoted(token()) +
                    "; correct this entry.");
    ++at;
    const int64_t bound = format_ == TextFormat::xmc ? features_ : max_ids;
    if (id >= bound)
        return fail("feature " + std::to_string(id) + " is outside [0, " + std::to_string(bound) +
                    "); feature ids count from zero.");
    const char* const number = at;
    int32_t whole = 0;  // most values are short whole numbers
    while (at != end && digit(*at) && at - number < 7) whole = whole * 10 + (*at++ - '0');
    float value = static_cast<float>(whole);
    if (at == number || (at != end && !blank(*at))) {
        const std::string_view rest = first_token({number, static_cast<size_t>(end - number)});
        if (!parse_float(rest, value))
            return fail("expected a finite number as the value of feature " + std::to_string(id) + "; got " +
                        quoted(rest) + "; correct or drop this entry.");
        at = number + rest.size();
    }
    smallest_feature_ = std::min(smallest_feature_, id);
    if (id > largest_feature_.id) largest_feature_ = {id, line_};
    rows_.indices.push_back(static_cast<int32_t>(id));
    rows_.values.push_back(value);
    return true;
}

bool TextReader::close_row() {
    if (!sort_entries(rows_.indptr.back()) || !sort_labels(rows_.label_indptr.back())) return false;
    rows_.indptr.push_back(static_cast<int64_t>(rows_.indices.size()));
    rows_.label_indptr.push_back(static_cast<int64_t>(rows_.labels.size()));
    return true;
}

bool TextReader::sort_entries(size_t begin) {
    std::vector<int32_t>& ids = rows_.indices;
    bool ascending = true;
    for (size_t j = begin + 1; j < ids.size(); ++j) ascending = ascending && ids[j - 1] < ids[j];
    if (ascending) return true;
    scratch_.clear();
    for (size_t j = begin; j < ids.size(); ++j) scratch_.emplace_back(ids[j], rows_.values[j]);
    std::sort(scratch_.begin(), scratch_.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (size_t j = begin; j < ids.size(); ++j) {
        ids[j] = scratch_[j - begin].first;
        rows_.values[j] = scratch_[j - begin].second;
        if (j > begin && ids[j - 1] == ids[j])
            return fail("expected each feature once in a row; got feature " + std::to_string(ids[j]) +
                        " twice; add up or drop the repeats.");
    }
    return true;
}

bool TextReader::sort_labels(size_t begin) {
    std::vector<int32_t>& ids = rows_.labels;
    std::sort(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.end());
    const auto repeat = std::adjacent_find(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.end());
    if (repeat == ids.end()) return true;
    return fail("expected each label once in a row; got label " + std::to_string(*repeat) +
                " twice; drop the repeats.");
}

}  // namespace hashfold
