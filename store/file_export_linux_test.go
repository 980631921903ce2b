package store

// Traced is traced, for the tests from outside.
var Traced = traced
