// Package sqlstore is a store in a table of an SQL database.
package sqlstore
