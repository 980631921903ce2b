package ops

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// Short is how many characters of a text fit into a line of a list.
	Short = 40
	// Long is how many characters of a text a record's own page shows.
	Long = 500

	// maxMarks is how many marks may stand on one letter: more of them grow over the
	// lines around it.
	maxMarks = 2
)

// Text returns s as one line that no terminal obeys: everything that does not print, or
// changes how other characters are shown, is written as Go would escape it. What is
// longer than limit characters is cut, and ends in an ellipsis. It leaves HTML as it
// is: templates escape that.
func Text(s string, limit int) string {
	var b strings.Builder
	marks, n := 0, 0
	for i, r := range s {
		if n == limit {
			b.WriteRune('…')
			break
		}
		n++
		if unicode.Is(unicode.M, r) {
			marks++
		} else {
			marks = 0
		}
		size := 1
		if r != utf8.RuneError {
			size = utf8.RuneLen(r)
		} else if strings.HasPrefix(s[i:], string(utf8.RuneError)) {
			size = len(string(utf8.RuneError))
		}
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case isHarmless(r) && marks <= maxMarks:
			b.WriteRune(r)
		default:
			b.WriteString(escaped(r))
		}
	}
	return b.String()
}

// isHarmless reports whether r shows itself, and nothing else.
func isHarmless(r rune) bool { return unicode.IsPrint(r) && !isBlank(r) }

// isBlank reports whether r counts as a letter, and shows nothing.
func isBlank(r rune) bool {
	switch r {
	case 0x034f, 0x115f, 0x1160, 0x17b4, 0x17b5, 0x2800, 0x3164, 0xffa0:
		return true
	}
	return unicode.Is(unicode.Variation_Selector, r)
}

func escaped(r rune) string {
	switch {
	case r == '\n':
		return `\n`
	case r == '\r':
		return `\r`
	case r == '\t':
		return `\t`
	case r < 0x80:
		return fmt.Sprintf(`\x%02x`, r)
	case r < 0x10000:
		return fmt.Sprintf(`\u%04x`, r)
	}
	return fmt.Sprintf(`\U%08x`, r)
}

// JSON returns v as one line of JSON that means the same as json.Marshal's, and has
// every character that [Text] would escape in JSON's own escapes: it is as harmless in
// a terminal.
func JSON(v any) ([]byte, error) {
	var plain bytes.Buffer
	e := json.NewEncoder(&plain)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, r := range strings.TrimSuffix(plain.String(), "\n") {
		switch {
		case isHarmless(r):
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		}
	}
	return b.Bytes(), nil
}
