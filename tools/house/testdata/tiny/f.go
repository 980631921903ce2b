package tiny

import "strings"

// F and B are exported.
var F, B = 1, strings.Builder{}

type hidden interface{ M() int }

func f(h hidden) { f(h) }
