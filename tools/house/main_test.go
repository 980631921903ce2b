package main

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func tiny(t *testing.T) []measured {
	t.Helper()
	packages, err := load(t.Context(), "testdata/tiny")
	if err != nil {
		t.Fatal(err)
	}
	return packages
}

func TestLoad_MeasuresEachPackage(t *testing.T) {
	t.Parallel()
	want := []measured{
		{path: ".", files: 6, lines: 6 + 7 + 3 + 4 + 2 + 5, exported: 5,
			types: []typeMethods{{"A", 3, 2}, {"generic", 1, 1}, {"small", 1, 1}},
			knot:  []string{"a.go", "b.go", "c.go"}},
		{path: "sub", files: 2, lines: 5, exported: 1},
	}
	if got := tiny(t); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestWrite_HasALineForEachPackage(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	write(&b, tiny(t), true)
	want := `
  files  code lines  exported  knot package, and its types with the most methods
      6          27         5     3 .: A 3 in 2, generic 1 in 1, small 1 in 1
      2           5         1     0 sub

the knot of .: a.go b.go c.go
`
	if got := "\n" + b.String(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestBounds_NameWhatExceedsThem(t *testing.T) {
	t.Parallel()
	for b, want := range map[bounds]string{
		{}:                              "",
		{methods: 3, files: 2, knot: 3}: "",
		{methods: 2}:                    "package ., methods of type A: 3; the bound is 2",
		{files: 1}:                      "package ., files with methods of type A: 2; the bound is 1",
		{knot: 2}:                       "package ., files of the largest knot: 3; the bound is 2",
	} {
		if got := strings.Join(b.exceededBy(tiny(t)), "\n"); got != want {
			t.Errorf("%+v: got %q, want %q", b, got, want)
		}
	}
}

func TestKnots_AreTheLargestSetsThatUseEachOther(t *testing.T) {
	t.Parallel()
	for graph, want := range map[string]string{
		"a>b b>c":                     "[[c] [b] [a]]",
		"a>b a>c c>b":                 "[[b] [c] [a]]",
		"a>b b>a":                     "[[a b]]",
		"a>b b>c c>a":                 "[[a b c]]",
		"a>b b>a b>c c>d d>c":         "[[c d] [a b]]",
		"a>b a>c b>d c>d d>a":         "[[a b c d]]",
		"a>b b>c c>b a>d d>e e>d":     "[[b c] [d e] [a]]",
		"a>b b>c c>d d>b d>e e>f f>e": "[[e f] [b c d] [a]]",
		"a>c b>a b>c c>b":             "[[a b c]]",
	} {
		edges := map[string][]string{}
		for edge := range strings.FieldsSeq(graph) {
			edges[edge[:1]] = append(edges[edge[:1]], edge[2:])
			edges[edge[2:]] = append([]string(nil), edges[edge[2:]]...) // it is a file, too
		}
		if got := fmt.Sprint(knots(edges)); got != want {
			t.Errorf("%s: got %s, want %s", graph, got, want)
		}
	}
}
