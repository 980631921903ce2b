package httponce

import (
	"net/http"
	"strings"
)

// KeyHeader is the request header with the key, and ReplayedHeader is in each response
// that was recorded before, with the value "true".
const (
	KeyHeader      = "Idempotency-Key"
	ReplayedHeader = "Idempotent-Replayed"
)

// maxKey is the length of the longest key, in bytes.
const maxKey = 255

// keyOf returns the key in h. given is false if there is none, and ok if it is not one.
func keyOf(h http.Header, unquoted bool) (key string, given, ok bool) {
	fields := h.Values(KeyHeader)
	switch len(fields) {
	case 0:
		return "", false, false
	case 1:
		key, ok = parseKey(fields[0], unquoted)
		return key, true, ok
	}
	return "", true, false
}

// parseKey returns the String of the Item of RFC 8941 that a field's value is. Its
// parameters mean nothing. unquoted lets it be without quotes.
func parseKey(field string, unquoted bool) (key string, ok bool) {
	field = strings.Trim(field, " ")
	if unquoted && isUnquoted(field) {
		return field, len(field) <= maxKey
	}
	key, rest, ok := parseString(field)
	return key, ok && key != "" && len(key) <= maxKey && areParameters(rest)
}

func isUnquoted(s string) bool {
	return s != "" && strings.IndexFunc(s, func(c rune) bool { return !isAlnum(c) && !strings.ContainsRune("-._~+/=:", c) }) < 0
}

// parseString takes a String of RFC 8941, section 3.3.3, from the beginning of s.
func parseString(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		return "", s, false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], true
		case c == '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", s, false
			}
			b.WriteByte(s[i])
		case c < ' ' || c > '~':
			return "", s, false
		default:
			b.WriteByte(c)
		}
	}
	return "", s, false
}

// areParameters reports whether s is a list of parameters as of RFC 8941, section 3.1.2.
// Values that are no strings are not looked at more closely than for where they end.
func areParameters(s string) bool {
	for s != "" {
		name, semicolon := strings.CutPrefix(s, ";")
		if !semicolon {
			return false
		}
		name = strings.TrimLeft(name, " ")
		end := until(name, func(c rune) bool {
			return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.ContainsRune("_-.*", c)
		})
		if end == 0 || name[0] != '*' && (name[0] < 'a' || name[0] > 'z') {
			return false
		}
		value, given := strings.CutPrefix(name[end:], "=")
		switch {
		case !given:
			s = value
		case strings.HasPrefix(value, `"`):
			var ok bool
			if _, s, ok = parseString(value); !ok {
				return false
			}
		default:
			end := until(value, func(c rune) bool { return isAlnum(c) || strings.ContainsRune("!#$%&'*+-.^_`|~:/?@=", c) })
			if end == 0 {
				return false
			}
			s = value[end:]
		}
	}
	return true
}

// until returns how much of the beginning of s consists of what is asks for.
func until(s string, is func(rune) bool) int {
	if end := strings.IndexFunc(s, func(c rune) bool { return !is(c) }); end >= 0 {
		return end
	}
	return len(s)
}

// isToken reports whether s is a token of RFC 9110, as names of methods and headers are.
func isToken(s string) bool {
	return s != "" && until(s, func(c rune) bool { return isAlnum(c) || strings.ContainsRune("!#$%&'*+-.^_`|~", c) }) == len(s)
}

func isAlnum(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
