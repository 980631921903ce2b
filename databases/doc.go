// Package databases has the tests of packages store/sqlstore and txn over real databases,
// in a module of its own: a program that uses either chooses its driver, and the library
// needs none.
package databases
