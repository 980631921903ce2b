package sqlstore

// Options are the options of New. The zero value is usable.
type Options struct {
	// Schema is where the store's table is: a schema of PostgreSQL, a database of
	// MySQL. Defaults to that of the connection.
	Schema string
	// Prefix begins the names of the table and of its indexes. Two Temporal clusters
	// that share namespace names on one database need different prefixes. Defaults to
	// "atmostonce_".
	Prefix string
}
