// Command house measures the structure of a module's packages: their size, what
// they export, how many methods a type has and in how many files these stand, and
// the largest knot of files.
//
// A file uses another one if it names something that is declared there: a type,
// function, variable, constant, method or field. A knot is a set of files each of
// which uses every other one, if only through others. Tests are not measured.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// bounds are what no package may exceed; 0 is no bound.
type bounds struct{ methods, files, knot int }

func main() {
	var b bounds
	dir := flag.String("dir", ".", "a `directory` of the module")
	verbose := flag.Bool("v", false, "list the files of each largest knot")
	flag.IntVar(&b.methods, "methods", 0, "the most methods that a type may have")
	flag.IntVar(&b.files, "files", 0, "the most files in which the methods of a type may stand")
	flag.IntVar(&b.knot, "knot", 0, "the most files that a knot may have")
	flag.Parse()
	packages, err := load(context.Background(), *dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "house:", err)
		os.Exit(1)
	}
	write(os.Stdout, packages, *verbose)
	if excesses := b.exceededBy(packages); len(excesses) > 0 {
		fmt.Fprintln(os.Stderr, "house: "+strings.Join(excesses, "\nhouse: "))
		os.Exit(1)
	}
}

// write writes a line for each package.
func write(w io.Writer, packages []measured, verbose bool) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "files\tcode lines\texported\tknot\t package, and its types with the most methods")
	for _, p := range packages {
		fmt.Fprintf(t, "%d\t%d\t%d\t%d\t %s", p.files, p.lines, p.exported, len(p.knot), p.path)
		for i, m := range p.types[:min(3, len(p.types))] {
			fmt.Fprintf(t, "%s%s %d in %d", []string{": ", ", ", ", "}[i], m.name, m.methods, m.files)
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush()
	for _, p := range packages {
		if verbose && len(p.knot) > 0 {
			fmt.Fprintf(w, "\nthe knot of %s: %s\n", p.path, strings.Join(p.knot, " "))
		}
	}
}

// exceededBy says what exceeds a bound.
func (b bounds) exceededBy(packages []measured) (excesses []string) {
	over := func(bound, is int, what string) {
		if bound > 0 && is > bound {
			excesses = append(excesses, fmt.Sprintf("%s: %d; the bound is %d", what, is, bound))
		}
	}
	for _, p := range packages {
		for _, t := range p.types {
			over(b.methods, t.methods, fmt.Sprintf("package %s, methods of type %s", p.path, t.name))
			over(b.files, t.files, fmt.Sprintf("package %s, files with methods of type %s", p.path, t.name))
		}
		over(b.knot, len(p.knot), fmt.Sprintf("package %s, files of the largest knot", p.path))
	}
	return excesses
}

// byMethods orders types, those with the most methods first.
func byMethods(types []typeMethods) {
	slices.SortFunc(types, func(a, b typeMethods) int {
		return cmp.Or(b.methods-a.methods, b.files-a.files, strings.Compare(a.name, b.name))
	})
}
