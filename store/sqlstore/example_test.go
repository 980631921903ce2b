package sqlstore_test

import (
	"context"
	"database/sql"
	"log"

	"github.com/atmostonce/atmostonce/store/sqlstore"
)

// A store in PostgreSQL. The program imports the driver, for instance with
//
//	import _ "github.com/jackc/pgx/v5/stdlib"
func ExampleNew() {
	db, err := sql.Open("pgx", "postgres://worker@localhost/shop?target_session_attrs=read-write")
	if err != nil {
		log.Fatalln(err)
	}
	s, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Options{})
	if err != nil {
		log.Fatalln(err)
	}
	// Where no runner of migrations has Store.Migrations, and the role may create tables:
	if err := s.Migrate(context.Background()); err != nil {
		log.Fatalln(err)
	}
	// Give s to interceptor.New, or to atmostonce.New.
}

// One file for the programs of a host, which prefer a database to a directory. The driver
// is modernc.org/sqlite.
func ExampleNew_sQLite() {
	db, err := sql.Open("sqlite", "file:/var/lib/shop/atmostonce.db?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		log.Fatalln(err)
	}
	s, err := sqlstore.New(db, sqlstore.SQLite, sqlstore.Options{})
	if err != nil {
		log.Fatalln(err)
	}
	if err := s.Check(context.Background()); err != nil { // what the guard asks, too
		log.Fatalln(err)
	}
}
