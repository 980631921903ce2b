package main

import (
	"go/scanner"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"
)

// measured is what was found out about a package.
type measured struct {
	path     string // from the module's root
	files    int
	lines    int           // with code in them
	exported int           // names at package level
	types    []typeMethods // the most methods first
	knot     []string      // the files of the largest knot; none if no two files use each other
}

// typeMethods says of a type how many methods it has, and in how many files.
type typeMethods struct {
	name           string
	methods, files int
}

func byPath(packages []measured) {
	slices.SortFunc(packages, func(a, b measured) int { return strings.Compare(a.path, b.path) })
}

func (s source) measure() measured {
	m := measured{files: len(s.files), types: s.types()}
	for _, text := range s.texts {
		m.lines += codeLines(text)
	}
	for _, name := range s.pkg.Scope().Names() {
		if token.IsExported(name) {
			m.exported++
		}
	}
	for _, knot := range knots(s.edges()) {
		if len(knot) > len(m.knot) && len(knot) > 1 {
			m.knot = knot
		}
	}
	return m
}

// codeLines counts the lines that have more than space and comments.
func codeLines(text []byte) int {
	file := token.NewFileSet().AddFile("", -1, len(text))
	var s scanner.Scanner
	s.Init(file, text, nil, 0)
	lines := map[int]bool{}
	for {
		pos, tok, literal := s.Scan()
		switch {
		case tok == token.EOF:
			return len(lines)
		case tok == token.SEMICOLON && literal == "\n":
			continue // the scanner has put it there
		}
		first := file.Line(pos)
		for line := first; line <= first+strings.Count(literal, "\n"); line++ {
			lines[line] = true
		}
	}
}

// types returns the types of the package that have methods of their own.
func (s source) types() []typeMethods {
	var all []typeMethods
	for _, name := range s.pkg.Scope().Names() {
		object, _ := s.pkg.Scope().Lookup(name).(*types.TypeName)
		if object == nil {
			continue
		}
		named, _ := object.Type().(*types.Named) // nil for an alias
		if named == nil || named.NumMethods() == 0 {
			continue
		}
		files := map[string]bool{}
		for method := range named.Methods() {
			files[s.fileOf(method.Pos())] = true
		}
		all = append(all, typeMethods{name: name, methods: named.NumMethods(), files: len(files)})
	}
	byMethods(all)
	return all
}

func (s source) fileOf(pos token.Pos) string { return filepath.Base(s.fset.Position(pos).Filename) }

// edges returns, for each file, the other ones that it uses.
func (s source) edges() map[string][]string {
	edges := map[string][]string{}
	for _, file := range s.files {
		edges[s.fileOf(file.Package)] = nil
	}
	for ident, object := range s.uses {
		if object.Pkg() != s.pkg {
			continue
		}
		// What is declared in a function is used in its file only.
		from, to := s.fileOf(ident.Pos()), s.fileOf(object.Pos())
		if from != to && !slices.Contains(edges[from], to) {
			edges[from] = append(edges[from], to)
		}
	}
	return edges
}

// knots returns the strongly connected components of a graph, by Tarjan's
// algorithm, each of them sorted.
func knots(edges map[string][]string) (all [][]string) {
	number, low := map[string]int{}, map[string]int{}
	var path []string // of those that are in no knot yet
	var visit func(node string)
	visit = func(node string) {
		number[node] = len(number) + 1
		low[node] = number[node]
		path = append(path, node)
		for _, next := range edges[node] {
			if number[next] == 0 {
				visit(next)
				low[node] = min(low[node], low[next])
			} else if slices.Contains(path, next) {
				low[node] = min(low[node], number[next])
			}
		}
		if low[node] == number[node] {
			at := slices.Index(path, node)
			knot := slices.Sorted(slices.Values(path[at:]))
			path = path[:at]
			all = append(all, knot)
		}
	}
	for _, node := range sortedKeys(edges) {
		if number[node] == 0 {
			visit(node)
		}
	}
	return all
}

// sortedKeys makes the order of the knots, and so which of two equally large ones is
// shown, the same each time.
func sortedKeys(edges map[string][]string) []string {
	var names []string
	for name := range edges {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
