//go:build v2

package main

const build = "v2"

type input struct {
	Order    string
	Cents    int
	Currency string
}
