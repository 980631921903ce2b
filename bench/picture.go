package main

import (
	"fmt"
	"strings"
)

// picture is an SVG with bars, readable on light and dark pages.
func (r *report) picture() string {
	const width, bar, left, full = 860, 24, 300, 420
	var b strings.Builder
	y := 10
	for _, p := range []struct {
		title, table, what, unit string
		of                       func(result) float64
	}{
		{"A first run on Redis, 1 at once: times the floor", "redis-first", "1 at once", " ×", ratio},
		{"64 at once: times the floor", "redis-first", "64 at once", " ×", ratio},
		{"Duplicate effects per 1,000 crashes", "crash", "duplicate effects", "", median},
	} {
		y += 26
		fmt.Fprintf(&b, `<text class="title" x="10" y="%d">%s</text>`+"\n", y, p.title)
		y += 10
		most := 0.0
		for _, x := range r.Results {
			if x.Table == p.table && x.What == p.what {
				most = max(most, p.of(x))
			}
		}
		for _, x := range r.Results {
			if x.Table != p.table || x.What != p.what {
				continue
			}
			value := p.of(x)
			if strings.HasPrefix(x.Case, "floor") {
				value = 1
			}
			class := "peer"
			if strings.HasPrefix(x.Case, "**") {
				class = "ours"
			}
			fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-10, y+16, plain(x.Case))
			fmt.Fprintf(&b, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d"/>`+"\n", class, left, y+2, max(1, full*value/max(most, 1)), bar-6)
			fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s%s</text>`+"\n", left+8+full*value/max(most, 1), y+16, show(value), p.unit)
			y += bar
		}
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`, width, y+10, width, y+10) + `
<style>
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.peer { fill: #8c959f }
.ours { fill: #0969da }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .peer { fill: #6e7681 } .ours { fill: #4493f8 } }
</style>
` + b.String() + "</svg>\n"
}

// plain is a name without Markdown, for SVG.
func plain(name string) string {
	return strings.NewReplacer("**", "", "`", "", "&", "&amp;", "<", "&lt;").Replace(name)
}
