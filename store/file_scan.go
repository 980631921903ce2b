package store

import (
	"bytes"
	"crypto/sha256"
	"strconv"
	"strings"
)

// This file is how lines are found in text of which some may be damaged or missing.

// lineSize returns the size of the line that data begins with; 0 if its end is not
// there. Last says that nothing follows data. A damaged line ends where the next one
// begins, or where it says; one that is cut off has no end. What a record quotes of a
// line is none: no line end is before it, and no checksum fits.
func lineSize(data []byte, last bool) int {
	n := statedSize(data)
	switch {
	case n > 0 && n <= len(data) && isWhole(data[:n]):
		return n
	case n > len(data) && n <= longestLine && !last:
		return 0
	}
	for at := 1; at < len(data); at++ { // its line end may be what is damaged
		next := statedSize(data[at:])
		if next > 0 && (data[at-1] == '\n' || next <= len(data)-at && isWhole(data[at:at+next])) {
			return at
		}
	}
	end := bytes.LastIndexByte(data, '\n') + 1
	switch {
	case !last:
		return 0
	case n == len(data) || !beginsLine(data):
		return len(data)
	case end == 0 && n > 0 && n < len(data):
		return n
	default:
		return end
	}
}

// isBlank reports whether text is a line of nothing but spaces.
func isBlank(text []byte) bool {
	return text[0] == ' ' && len(bytes.Trim(bytes.TrimSuffix(text, []byte("\n")), " ")) == 0
}

// beginsLine reports whether data may be the beginning of a line: what is left of one
// whose writer was killed.
func beginsLine(data []byte) bool {
	form := lineVersion + " 00000000 " + strings.Repeat("0", 2*sha256.Size) + " "
	for i := range min(len(data), len(form)) {
		isHex := data[i] >= '0' && data[i] <= '9' || data[i] >= 'a' && data[i] <= 'f'
		if form[i] == '0' && !isHex || form[i] == ' ' && data[i] != ' ' || form[i] == '1' && data[i] != '1' {
			return false
		}
	}
	return !bytes.Contains(data, []byte{0})
}

// statedSize returns the size that the line which data begins with says it has; 0 if
// no line begins so.
func statedSize(data []byte) int {
	digest := headFixed + 2*sha256.Size
	if len(data) <= digest || data[0] < '1' || data[0] > '9' || data[1] != ' ' || data[headFixed-1] != ' ' ||
		data[digest] != ' ' || !isDigest(data[headFixed:digest]) {
		return 0
	}
	n, err := strconv.Atoi(string(data[len(lineVersion)+1 : headFixed-1]))
	if err != nil || n <= digest {
		return 0
	}
	return n
}
