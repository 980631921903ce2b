//go:build !v2

package main

const build = "v1"

type input struct {
	Order string
	Cents int
}
