package page

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// link is a URL with places for values: {name}.
type link string

var place = regexp.MustCompile(`\{[^{}]*\}`)

// newLink checks a template. It must have the first of the names.
func newLink(field, template string, names ...string) (link, error) {
	if template == "" {
		return "", nil
	}
	filled := place.ReplaceAllStringFunc(template, func(at string) string {
		for _, name := range names {
			if at == "{"+name+"}" {
				return "value"
			}
		}
		return at
	})
	u, err := url.Parse(filled)
	switch authority := authorityOf(template); {
	case err != nil:
		return "", fmt.Errorf("%s is no URL: %w", field, errors.Unwrap(err)) // without the URL
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("%s begins with neither http:// nor https://", field)
	case u.Host == "" || u.User != nil:
		return "", fmt.Errorf("%s needs a host, and no user", field)
	case strings.ContainsAny(authority, "{}"):
		return "", fmt.Errorf("%s: a value may not be part of the host", field)
	case strings.ContainsAny(filled, "{}"):
		return "", fmt.Errorf("%s: the places for values are {%s}", field, strings.Join(names, "}, {"))
	case !strings.Contains(template, "{"+names[0]+"}"):
		return "", fmt.Errorf("%s has no {%s}", field, names[0])
	}
	return link(template), nil
}

// authorityOf is what a URL has before its path.
func authorityOf(template string) string {
	scheme, rest, _ := strings.Cut(template, "://")
	host, _, _ := strings.Cut(rest, "/")
	return scheme + host
}

// to fills in the values, which come in pairs with their names. It returns no URL if one
// that is needed is missing, or would lead elsewhere.
func (l link) to(pairs ...string) string {
	text := string(l)
	for i := 0; i < len(pairs); i += 2 {
		at, value := "{"+pairs[i]+"}", pairs[i+1]
		if !strings.Contains(text, at) {
			continue
		}
		if value == "" || value == "." || value == ".." { // browsers leave out such parts of a path, however they are escaped
			return ""
		}
		text = strings.ReplaceAll(text, at, escape(value))
	}
	return text
}

// escape escapes whatever means something anywhere in a URL.
func escape(value string) string {
	var b strings.Builder
	for _, c := range []byte(value) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
