package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// listed is what the go command says about a package.
type listed struct {
	ImportPath, Dir, Export string
	GoFiles, CgoFiles       []string
	Module                  *struct {
		Path string
		Main bool
	}
}

// load measures the packages of the module that dir is in, sorted by their paths.
func load(ctx context.Context, dir string) ([]measured, error) {
	list := exec.CommandContext(ctx, "go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,CgoFiles,Module", "./...")
	list.Dir, list.Stderr = dir, os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var ours []listed
	exports := map[string]string{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		exports[p.ImportPath] = p.Export
		if p.Module != nil && p.Module.Main {
			ours = append(ours, p)
		}
	}
	fset := token.NewFileSet()
	known := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	var packages []measured
	for _, p := range ours {
		checked, err := check(fset, known, p)
		if err != nil {
			return nil, err
		}
		m := checked.measure()
		if m.path = strings.TrimPrefix(p.ImportPath, p.Module.Path+"/"); p.ImportPath == p.Module.Path {
			m.path = "."
		}
		packages = append(packages, m)
	}
	byPath(packages)
	return packages, nil
}

// source is a package with what its identifiers mean.
type source struct {
	fset  *token.FileSet
	pkg   *types.Package
	files []*ast.File
	texts map[string][]byte // by the name of the file
	uses  map[*ast.Ident]types.Object
}

func check(fset *token.FileSet, known types.Importer, p listed) (source, error) {
	s := source{fset: fset, texts: map[string][]byte{}, uses: map[*ast.Ident]types.Object{}}
	if len(p.CgoFiles) > 0 {
		return s, fmt.Errorf("%s: packages with cgo cannot be measured", p.ImportPath)
	}
	for _, name := range p.GoFiles {
		path := filepath.Join(p.Dir, name)
		text, err := os.ReadFile(path)
		if err != nil {
			return s, err
		}
		file, err := parser.ParseFile(fset, path, text, parser.SkipObjectResolution)
		if err != nil {
			return s, err
		}
		s.files, s.texts[path] = append(s.files, file), text
	}
	config := types.Config{Importer: known}
	var err error
	s.pkg, err = config.Check(p.ImportPath, fset, s.files, &types.Info{Uses: s.uses})
	return s, err
}
